// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ResponseWindow} from "./ResponseWindow.sol";
import {TaskKeeper} from "./TaskKeeper.sol";

/// @title A task manager for local chains, with the interface of the "incredible-squaring" convention
/// @notice A task is a number and the response another one. Nothing here checks that it is the square: what the
/// operators sign is what counts. The convention's challenges are left out.
contract SquaringTaskManager is ResponseWindow {
    struct Task {
        uint256 numberToBeSquared;
        uint32 taskCreatedBlock;
        bytes quorumNumbers;
        uint32 quorumThresholdPercentage;
    }

    /// @dev The part the operators sign. Nothing in it is dynamic, so its encoding has no leading offset.
    struct TaskResponse {
        uint32 referenceTaskIndex;
        uint256 numberSquared;
    }

    struct TaskResponseMetadata {
        uint32 taskRespondedBlock;
        bytes32 hashOfNonSigners;
    }

    event NewTaskCreated(uint32 indexed taskIndex, Task task);
    event TaskResponded(TaskResponse taskResponse, TaskResponseMetadata taskResponseMetadata);

    constructor(uint32 taskResponseWindowBlock, address initialAggregator, address initialGenerator)
        TaskKeeper(initialAggregator, initialGenerator)
        ResponseWindow(taskResponseWindowBlock)
    {}

    /// @notice Asks for one square.
    function createNewTask(uint256 numberToBeSquared, uint32 quorumThresholdPercentage, bytes calldata quorumNumbers)
        external
        onlyTaskGenerator
    {
        _create(numberToBeSquared, quorumThresholdPercentage, quorumNumbers);
    }

    /// @notice Asks for many in one transaction. Not part of the convention: it exists for bulk tests.
    function createManyTasks(
        uint256[] calldata numbers,
        uint32 quorumThresholdPercentage,
        bytes calldata quorumNumbers
    ) external onlyTaskGenerator {
        for (uint256 i = 0; i < numbers.length; i++) {
            _create(numbers[i], quorumThresholdPercentage, quorumNumbers);
        }
    }

    /// @notice Answers a task, once, within its window, with a signature of enough stake in every quorum of the task.
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

    function getTaskResponseWindowBlock() external view returns (uint32) {
        return TASK_RESPONSE_WINDOW_BLOCK;
    }

    function _words(Refusal why) internal pure override returns (string memory) {
        if (why == Refusal.OtherTask) return "supplied task does not match the one recorded in the contract";
        if (why == Refusal.TooLate) return "Aggregator has responded to the task too late";
        return super._words(why);
    }

    function _create(uint256 number, uint32 quorumThresholdPercentage, bytes calldata quorumNumbers) private {
        Task memory task = Task(number, uint32(block.number), quorumNumbers, quorumThresholdPercentage);
        emit NewTaskCreated(_keep(keccak256(abi.encode(task))), task);
    }
}
