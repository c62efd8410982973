// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {WizardTasks} from "./WizardTasks.sol";

/// @title A task manager for local chains, with the interface of the "wizard" convention
contract TaskManager is WizardTasks {
    constructor(uint32 taskResponseWindowBlock, address initialAggregator, address initialGenerator)
        WizardTasks(taskResponseWindowBlock, initialAggregator, initialGenerator)
    {}

    /// @notice Asks one question.
    function createNewTask(bytes calldata message, uint32 quorumThresholdPercentage, bytes calldata quorumNumbers)
        external
        onlyTaskGenerator
    {
        _create(message, quorumThresholdPercentage, quorumNumbers);
    }

    /// @notice Answers a task.
    function respondToTask(
        Task calldata task,
        TaskResponse calldata taskResponse,
        NonSignerStakesAndSignature calldata nonSignerStakesAndSignature
    ) external onlyAggregator {
        _respond(task, taskResponse, nonSignerStakesAndSignature);
    }
}
