// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {WizardTasks} from "./WizardTasks.sol";

/// A task manager of the "wizard" convention that checks the reference block before everything else.
contract EarlyTaskManager is WizardTasks {
    constructor(uint32 taskResponseWindowBlock, address initialAggregator, address initialGenerator)
        WizardTasks(taskResponseWindowBlock, initialAggregator, initialGenerator)
    {}

    function createNewTask(bytes calldata message, uint32 quorumThresholdPercentage, bytes calldata quorumNumbers)
        external
        onlyTaskGenerator
    {
        _create(message, quorumThresholdPercentage, quorumNumbers);
    }

    function respondToTask(
        Task calldata task,
        TaskResponse calldata taskResponse,
        NonSignerStakesAndSignature calldata nonSignerStakesAndSignature
    ) external onlyAggregator {
        require(
            task.taskCreatedBlock < block.number,
            "BLSSignatureChecker.checkSignatures: invalid reference block"
        );
        _respond(task, taskResponse, nonSignerStakesAndSignature);
    }
}
