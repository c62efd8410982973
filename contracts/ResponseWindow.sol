// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TaskKeeper} from "./TaskKeeper.sol";

/// @title Tasks that can be answered for a fixed number of blocks
abstract contract ResponseWindow is TaskKeeper {
    /// @notice A response counts up to and including block `taskCreatedBlock + TASK_RESPONSE_WINDOW_BLOCK`.
    uint32 public immutable TASK_RESPONSE_WINDOW_BLOCK;

    constructor(uint32 taskResponseWindowBlock) {
        TASK_RESPONSE_WINDOW_BLOCK = taskResponseWindowBlock;
    }

    function _lastBlock(uint32 createdBlock) internal view override returns (uint256) {
        return uint256(createdBlock) + TASK_RESPONSE_WINDOW_BLOCK;
    }
}
