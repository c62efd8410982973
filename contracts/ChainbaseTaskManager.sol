// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TaskKeeper} from "./TaskKeeper.sol";

/// @title A task manager for local chains, with the interface of the "chainbase" convention
/// @notice Tasks and responses are texts, and there is no response window: a task may be answered for ever.
contract ChainbaseTaskManager is TaskKeeper {
    struct Task {
        string taskDetails;
        uint32 taskCreatedBlock;
        bytes quorumNumbers;
        uint32 quorumThresholdPercentage;
    }

    /// @dev The part the operators sign: keccak256(abi.encode(TaskResponse)).
    struct TaskResponse {
        uint32 referenceTaskIndex;
        string taskResponse;
    }

    struct TaskResponseMetadata {
        uint32 taskRespondedBlock;
        bytes32 hashOfNonSigners;
    }

    event NewTaskCreated(uint32 indexed taskIndex, Task task);
    event TaskResponded(TaskResponse taskResponse, TaskResponseMetadata taskResponseMetadata);

    constructor(address initialAggregator, address initialGenerator) TaskKeeper(initialAggregator, initialGenerator) {}

    /// @notice Asks one question.
    function createNewTask(string calldata taskDetails, uint32 quorumThresholdPercentage, bytes calldata quorumNumbers)
        external
        onlyTaskGenerator
    {
        _create(taskDetails, quorumThresholdPercentage, quorumNumbers);
    }

    /// @notice Asks many questions in one transaction. Not part of the convention: it exists for bulk tests.
    function createManyTasks(
        string[] calldata details,
        uint32 quorumThresholdPercentage,
        bytes calldata quorumNumbers
    ) external onlyTaskGenerator {
        for (uint256 i = 0; i < details.length; i++) {
            _create(details[i], quorumThresholdPercentage, quorumNumbers);
        }
    }

    /// @notice Answers a task, once, with a signature of enough stake in every quorum of the task.
    function respondToTask(
        Task calldata task,
        TaskResponse calldata taskResponse,
        NonSignerStakesAndSignature calldata nonSignerStakesAndSignature
    ) external onlyAggregator {
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

    /// @notice The same as `latestTaskNum`, under the convention's other name for it.
    function taskNumber() external view returns (uint32) {
        return latestTaskNum;
    }

    /// @dev The convention names the contract first, and goes on in lower case.
    function _words(Refusal why) internal pure override returns (string memory) {
        if (why == Refusal.NotGenerator) return "ChainbaseServiceManager: generator must be the caller";
        bytes memory words = bytes(super._words(why));
        words[0] |= 0x20;
        return string.concat("ChainbaseServiceManager: ", string(words));
    }

    function _create(string calldata details, uint32 quorumThresholdPercentage, bytes calldata quorumNumbers) private {
        Task memory task = Task(details, uint32(block.number), quorumNumbers, quorumThresholdPercentage);
        emit NewTaskCreated(_keep(keccak256(abi.encode(task))), task);
    }
}
