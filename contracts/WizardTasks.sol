// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ResponseWindow} from "./ResponseWindow.sol";
import {TaskKeeper} from "./TaskKeeper.sol";

/// @title Tasks of the "wizard" convention, whose two templates differ in the names of their functions alone
/// @notice Event topics, struct orders and revert texts are those a production contract of the convention has, so that
/// what works against this one works there.
abstract contract WizardTasks is ResponseWindow {
    struct Task {
        uint32 taskCreatedBlock;
        uint32 quorumThresholdPercentage;
        bytes message;
        bytes quorumNumbers;
    }

    /// @dev The part the operators sign: keccak256(abi.encode(TaskResponse)).
    struct TaskResponse {
        uint32 referenceTaskIndex;
        bytes message;
    }

    /// @dev Known only when the response is mined, hence outside what is signed. The spelling is the convention's.
    struct TaskResponseMetadata {
        uint32 taskResponsedBlock;
        bytes32 hashOfNonSigners;
    }

    event NewTaskCreated(uint32 indexed taskIndex, Task task);
    event TaskResponded(TaskResponse taskResponse, TaskResponseMetadata taskResponseMetadata);

    constructor(uint32 taskResponseWindowBlock, address initialAggregator, address initialGenerator)
        TaskKeeper(initialAggregator, initialGenerator)
        ResponseWindow(taskResponseWindowBlock)
    {}

    /// @notice Asks many questions in one transaction. Not part of the convention: it exists for bulk tests.
    function createManyTasks(
        bytes[] calldata messages,
        uint32 quorumThresholdPercentage,
        bytes calldata quorumNumbers
    ) external onlyTaskGenerator {
        for (uint256 i = 0; i < messages.length; i++) {
            _create(messages[i], quorumThresholdPercentage, quorumNumbers);
        }
    }

    function _create(bytes calldata message, uint32 quorumThresholdPercentage, bytes calldata quorumNumbers) internal {
        Task memory task = Task(uint32(block.number), quorumThresholdPercentage, message, quorumNumbers);
        emit NewTaskCreated(_keep(keccak256(abi.encode(task))), task);
    }

    /// @dev Answers a task, once, within its window, with a signature of enough stake in every quorum of the task.
    function _respond(
        Task calldata task,
        TaskResponse calldata taskResponse,
        NonSignerStakesAndSignature calldata nonSignerStakesAndSignature
    ) internal {
        uint32 index = taskResponse.referenceTaskIndex;
        _checkOpen(index, keccak256(abi.encode(task)), task.taskCreatedBlock);
        bytes32 hashOfNonSigners = _checkSigned(
            keccak256(abi.encode(taskResponse)),
            task.quorumNumbers,
            task.taskCreatedBlock,
            task.quorumThresholdPercentage,
            nonSignerStakesAndSignature
        );
        TaskResponseMetadata memory metadata = TaskResponseMetadata(uint32(block.number), hashOfNonSigners);
        allTaskResponses[index] = keccak256(abi.encode(taskResponse, metadata));
        emit TaskResponded(taskResponse, metadata);
    }
}
