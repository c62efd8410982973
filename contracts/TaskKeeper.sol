// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {OperatorRegistry} from "./OperatorRegistry.sol";

/// @title What the task managers of all conventions share: numbered tasks kept as hashes, and one answer for each
/// @notice For local chains only. A convention adds its structs, its events and the names of its two functions.
/// Differs on purpose in three points from production contracts, each on the strict side: nobody-signed is refused, a
/// threshold above 100 can never be met (instead of wrapping at 256), and the response window cannot overflow.
abstract contract TaskKeeper is OperatorRegistry {
    /// @dev Why a call is refused. The conventions agree on the reasons and differ in the words.
    enum Refusal {
        NotAggregator,
        NotGenerator,
        OtherTask,
        AlreadyAnswered,
        TooLate,
        TooLittleStake
    }

    event AggregatorUpdated(address indexed oldAggregator, address indexed newAggregator);
    event GeneratorUpdated(address indexed oldGenerator, address indexed newGenerator);

    uint256 private constant THRESHOLD_DENOMINATOR = 100;

    /// @notice The index the next task will get, which is also the number of tasks: indices have no gaps.
    uint32 public latestTaskNum;
    /// @notice keccak256(abi.encode(Task)) by index: a task is kept as its hash, and whoever answers brings the rest.
    mapping(uint32 taskIndex => bytes32) public allTaskHashes;
    /// @notice keccak256(abi.encode(TaskResponse, TaskResponseMetadata)) by index; zero while unanswered.
    mapping(uint32 taskIndex => bytes32) public allTaskResponses;

    address public aggregator;
    address public generator;

    modifier onlyAggregator() {
        _insist(msg.sender == aggregator, Refusal.NotAggregator);
        _;
    }

    modifier onlyTaskGenerator() {
        _insist(msg.sender == generator, Refusal.NotGenerator);
        _;
    }

    constructor(address initialAggregator, address initialGenerator) {
        _setAggregator(initialAggregator);
        _setGenerator(initialGenerator);
    }

    function setAggregator(address newAggregator) external onlyOwner {
        _setAggregator(newAggregator);
    }

    function setGenerator(address newGenerator) external onlyOwner {
        _setGenerator(newGenerator);
    }

    /// @dev Gives a task its index. As in the conventions, thresholds and quorums are not checked: a task nobody can
    /// answer can be made.
    function _keep(bytes32 taskHash) internal returns (uint32 index) {
        index = latestTaskNum;
        allTaskHashes[index] = taskHash;
        latestTaskNum = index + 1;
    }

    /// @dev May the task of this hash and index still be answered?
    function _checkOpen(uint32 index, bytes32 taskHash, uint32 createdBlock) internal view {
        _insist(taskHash == allTaskHashes[index], Refusal.OtherTask);
        _insist(allTaskResponses[index] == bytes32(0), Refusal.AlreadyAnswered);
        _insist(block.number <= _lastBlock(createdBlock), Refusal.TooLate);
    }

    /// @dev Did enough stake sign, in every quorum of the task?
    /// Stakes are those of the block that created the task: who registers later can neither help nor hinder.
    function _checkSigned(
        bytes32 digest,
        bytes calldata quorumNumbers,
        uint32 createdBlock,
        uint32 quorumThresholdPercentage,
        NonSignerStakesAndSignature calldata nonSignerStakesAndSignature
    ) internal view returns (bytes32) {
        (QuorumStakeTotals memory totals, bytes32 hashOfNonSigners) =
            checkSignatures(digest, quorumNumbers, createdBlock, nonSignerStakesAndSignature);
        for (uint256 i = 0; i < totals.totalStakeForQuorum.length; i++) {
            _insist(
                uint256(totals.signedStakeForQuorum[i]) * THRESHOLD_DENOMINATOR
                    >= uint256(totals.totalStakeForQuorum[i]) * quorumThresholdPercentage,
                Refusal.TooLittleStake
            );
        }
        return hashOfNonSigners;
    }

    /// @dev The last block that may answer a task. Without a rule of its own a convention has no deadline.
    function _lastBlock(uint32) internal view virtual returns (uint256) {
        return type(uint256).max;
    }

    /// @dev The words of the convention, which is how programs tell one refusal from another.
    function _words(Refusal why) internal pure virtual returns (string memory) {
        if (why == Refusal.NotAggregator) return "Aggregator must be the caller";
        if (why == Refusal.NotGenerator) return "Task generator must be the caller";
        if (why == Refusal.OtherTask) return "Supplied task does not match the one recorded in the contract";
        if (why == Refusal.AlreadyAnswered) return "Aggregator has already responded to the task";
        if (why == Refusal.TooLate) return "Aggregator has responded too late";
        return "Signatories do not own at least threshold percentage of a quorum";
    }

    function _insist(bool condition, Refusal why) private pure {
        if (!condition) revert(_words(why));
    }

    function _setAggregator(address newAggregator) private {
        require(newAggregator != address(0), "Aggregator cannot be zero address");
        emit AggregatorUpdated(aggregator, newAggregator);
        aggregator = newAggregator;
    }

    function _setGenerator(address newGenerator) private {
        require(newGenerator != address(0), "Generator cannot be zero address");
        emit GeneratorUpdated(generator, newGenerator);
        generator = newGenerator;
    }
}
