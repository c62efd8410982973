// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title One address whose code can be changed, as most production task managers have
/// @notice For local chains only: ANYBODY can change the code. Storage is the proxy's, immutables are the
/// implementation's; so what a constructor wrote into storage has to be set again through the proxy.
contract Proxy {
    /// @dev keccak256("eip1967.proxy.implementation") - 1, the place ERC-1967 assigns.
    bytes32 private constant IMPLEMENTATION_SLOT = 0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc;

    event Upgraded(address indexed implementation);

    constructor(address implementation) {
        _point(implementation);
    }

    /// @notice Puts other code behind this address; storage stays as it is.
    function upgradeTo(address implementation) external {
        _point(implementation);
    }

    fallback() external {
        assembly {
            calldatacopy(0, 0, calldatasize())
            let success := delegatecall(gas(), sload(IMPLEMENTATION_SLOT), 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            switch success
            case 0 { revert(0, returndatasize()) }
            default { return(0, returndatasize()) }
        }
    }

    function _point(address implementation) private {
        // A call to an address without code succeeds and returns nothing, which would hide the mistake.
        require(implementation.code.length != 0, "implementation has no code");
        assembly {
            sstore(IMPLEMENTATION_SLOT, implementation)
        }
        emit Upgraded(implementation);
    }
}
