// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BN254} from "./BN254.sol";

/// @title Who may sign, and what each signature weighed at any block in the past
/// @notice A small stand-in for the registries of a real AVS, for local chains only: operators join and never leave,
/// and their stake is whatever the owner says. What it keeps honest is time: a task is judged by the operators of
/// the block that created it, so every quorum carries its history.
abstract contract OperatorRegistry {
    using BN254 for BN254.G1Point;

    /// @dev The state of a quorum from `fromBlock` (its end) until the next checkpoint.
    struct Checkpoint {
        uint32 fromBlock;
        uint96 totalStake;
        BN254.G1Point apk;
    }

    struct Operator {
        uint32 registeredBlock;
        uint96 stake;
        uint256 quorumBitmap;
    }

    struct NonSignerStakesAndSignature {
        uint32[] nonSignerQuorumBitmapIndices;
        BN254.G1Point[] nonSignerPubkeys;
        BN254.G1Point[] quorumApks;
        BN254.G2Point apkG2;
        BN254.G1Point sigma;
        uint32[] quorumApkIndices;
        uint32[] totalStakeIndices;
        uint32[][] nonSignerStakeIndices;
    }

    struct QuorumStakeTotals {
        uint96[] signedStakeForQuorum;
        uint96[] totalStakeForQuorum;
    }

    event OperatorRegistered(bytes32 indexed operatorId, uint96 stake, bytes quorumNumbers);

    address public immutable owner;

    mapping(bytes32 operatorId => Operator) public operators;
    mapping(uint8 quorumNumber => Checkpoint[]) private _checkpoints;

    modifier onlyOwner() {
        require(msg.sender == owner, "Ownable: caller is not the owner");
        _;
    }

    constructor() {
        owner = msg.sender;
    }

    /// @notice Adds an operator with one stake for every quorum it joins.
    /// @param proof the operator's signature of `registrationDigest`. It proves that the caller knows the secret key:
    /// without it a key made as "mine minus everybody else's" would let one operator sign for all. The same
    /// equation proves that both public keys belong to one secret.
    function registerOperator(
        BN254.G1Point calldata pubkeyG1,
        BN254.G2Point calldata pubkeyG2,
        BN254.G1Point calldata proof,
        bytes calldata quorumNumbers,
        uint96 stake
    ) external onlyOwner {
        bytes32 operatorId = keccak256(abi.encode(pubkeyG1.X, pubkeyG1.Y));
        require(!BN254.isInfinity(pubkeyG1), "operator key is the point at infinity");
        require(operators[operatorId].registeredBlock == 0, "operator is already registered");
        require(stake > 0, "operator needs a stake");
        uint256 bitmap = toBitmap(quorumNumbers);
        require(bitmap != 0, "operator joins no quorum");
        (bool success, bool valid) = verifySignature(registrationDigest(operatorId), pubkeyG1, pubkeyG2, proof);
        require(success && valid, "proof of possession is invalid");

        operators[operatorId] = Operator(uint32(block.number), stake, bitmap);
        for (uint256 i = 0; i < quorumNumbers.length; i++) {
            _join(uint8(quorumNumbers[i]), pubkeyG1, stake);
        }
        emit OperatorRegistered(operatorId, stake, quorumNumbers);
    }

    /// @notice What a joining operator signs; bound to this contract so that the proof is of no use elsewhere.
    function registrationDigest(bytes32 operatorId) public view returns (bytes32) {
        return keccak256(abi.encode("OperatorRegistry.registerOperator", block.chainid, address(this), operatorId));
    }

    /// @notice Aggregate key and total stake of a quorum at the end of a block.
    function quorumAt(uint8 quorumNumber, uint32 blockNumber) public view returns (Checkpoint memory) {
        Checkpoint[] storage history = _checkpoints[quorumNumber];
        // From the newest backwards: tasks are young, so the last entry is nearly always the one.
        for (uint256 i = history.length; i > 0; i--) {
            if (history[i - 1].fromBlock <= blockNumber) return history[i - 1];
        }
        revert("StakeRegistry.quorumExists: quorum does not exist");
    }

    /// @notice Checks an aggregated signature against the operators of `referenceBlock`.
    /// @dev The key that must have signed is computed here, from the history and the list of non-signers; of what the
    /// caller supplies only the non-signers and the two points matter. The index lists of the convention exist to
    /// save a search in large registries: their lengths are checked, their contents are looked up instead.
    /// A signer in two quorums counts twice in apk, apkG2 and sigma, as in the convention.
    function checkSignatures(
        bytes32 digest,
        bytes calldata quorumNumbers,
        uint32 referenceBlock,
        NonSignerStakesAndSignature memory params
    ) public view returns (QuorumStakeTotals memory totals, bytes32 hashOfNonSigners) {
        _checkShape(quorumNumbers, referenceBlock, params);
        BN254.G1Point memory apk = BN254.G1Point(0, 0);
        totals.signedStakeForQuorum = new uint96[](quorumNumbers.length);
        totals.totalStakeForQuorum = new uint96[](quorumNumbers.length);
        for (uint256 i = 0; i < quorumNumbers.length; i++) {
            Checkpoint memory quorum = quorumAt(uint8(quorumNumbers[i]), referenceBlock);
            require(
                quorum.apk.X == params.quorumApks[i].X && quorum.apk.Y == params.quorumApks[i].Y,
                "BLSSignatureChecker.checkSignatures: quorumApk hash in storage does not match provided quorum apk"
            );
            totals.totalStakeForQuorum[i] = quorum.totalStake;
            totals.signedStakeForQuorum[i] = quorum.totalStake;
            apk = apk.add(quorum.apk);
        }

        bytes32[] memory ids = new bytes32[](params.nonSignerPubkeys.length);
        for (uint256 j = 0; j < ids.length; j++) {
            BN254.G1Point memory key = params.nonSignerPubkeys[j];
            ids[j] = keccak256(abi.encode(key.X, key.Y));
            require(
                j == 0 || uint256(ids[j]) > uint256(ids[j - 1]),
                "BLSSignatureChecker.checkSignatures: nonSignerPubkeys not sorted"
            );
            uint256 times = _takeOut(ids[j], quorumNumbers, referenceBlock, totals.signedStakeForQuorum);
            for (uint256 k = 0; k < times; k++) {
                apk = apk.add(key.negate());
            }
        }

        // Nobody signed: everything at infinity satisfies the pairing, so the equation below would prove nothing.
        require(!apk.isInfinity(), "BLSSignatureChecker.checkSignatures: nobody signed");
        (bool success, bool valid) = verifySignature(digest, apk, params.apkG2, params.sigma);
        require(success, "BLSSignatureChecker.checkSignatures: pairing precompile call failed");
        require(valid, "BLSSignatureChecker.checkSignatures: signature is invalid");
        hashOfNonSigners = keccak256(abi.encodePacked(referenceBlock, ids));
    }

    /// @notice One pairing for two statements: `sigma` signs `digest` under `apk`, and `apk` and `apkG2` share a secret.
    /// @dev gamma is drawn from all inputs, so that an error in one statement cannot cancel an error in the other.
    function verifySignature(
        bytes32 digest,
        BN254.G1Point memory apk,
        BN254.G2Point memory apkG2,
        BN254.G1Point memory sigma
    ) public view returns (bool success, bool valid) {
        uint256 gamma = uint256(
            keccak256(
                abi.encodePacked(
                    digest, apk.X, apk.Y, apkG2.X[0], apkG2.X[1], apkG2.Y[0], apkG2.Y[1], sigma.X, sigma.Y
                )
            )
        ) % BN254.R;
        return BN254.pairing(
            sigma.add(apk.multiply(gamma)),
            BN254.negatedGeneratorG2(),
            BN254.hashToG1(digest).add(BN254.generatorG1().multiply(gamma)),
            apkG2
        );
    }

    /// @dev Strictly ascending quorum numbers, each counted once: a repeated one would count a stake twice.
    function toBitmap(bytes calldata quorumNumbers) internal pure returns (uint256 bitmap) {
        for (uint256 i = 0; i < quorumNumbers.length; i++) {
            uint256 bit = 1 << uint8(quorumNumbers[i]);
            require(bit > bitmap, "BitmapUtils.orderedBytesArrayToBitmap: orderedBytesArray is not ordered");
            bitmap |= bit;
        }
    }

    function _checkShape(
        bytes calldata quorumNumbers,
        uint32 referenceBlock,
        NonSignerStakesAndSignature memory params
    ) private view {
        uint256 n = quorumNumbers.length;
        require(n != 0, "BLSSignatureChecker.checkSignatures: empty quorum input");
        require(
            n == params.quorumApks.length && n == params.quorumApkIndices.length
                && n == params.totalStakeIndices.length && n == params.nonSignerStakeIndices.length,
            "BLSSignatureChecker.checkSignatures: input quorum length mismatch"
        );
        require(
            params.nonSignerPubkeys.length == params.nonSignerQuorumBitmapIndices.length,
            "BLSSignatureChecker.checkSignatures: input nonsigner length mismatch"
        );
        // A block's stakes are settled only at its end, so a block cannot be judged from within.
        require(referenceBlock < block.number, "BLSSignatureChecker.checkSignatures: invalid reference block");
        toBitmap(quorumNumbers);
    }

    /// @dev Subtracts a non-signer's stake from each quorum it was in, and says how many those were.
    function _takeOut(bytes32 id, bytes calldata quorumNumbers, uint32 referenceBlock, uint96[] memory signedStake)
        private
        view
        returns (uint256 times)
    {
        Operator memory operator = operators[id];
        require(
            operator.registeredBlock != 0 && operator.registeredBlock <= referenceBlock,
            "BLSSignatureChecker.checkSignatures: non-signer was not registered at the reference block"
        );
        for (uint256 i = 0; i < quorumNumbers.length; i++) {
            if (operator.quorumBitmap & (1 << uint8(quorumNumbers[i])) != 0) {
                signedStake[i] -= operator.stake;
                times++;
            }
        }
    }

    function _join(uint8 quorumNumber, BN254.G1Point memory key, uint96 stake) private {
        Checkpoint[] storage history = _checkpoints[quorumNumber];
        if (history.length == 0) {
            history.push(Checkpoint(uint32(block.number), stake, key));
            return;
        }
        Checkpoint memory last = history[history.length - 1];
        Checkpoint memory next = Checkpoint(uint32(block.number), last.totalStake + stake, last.apk.add(key));
        if (last.fromBlock == next.fromBlock) {
            history[history.length - 1] = next;
        } else {
            history.push(next);
        }
    }
}
