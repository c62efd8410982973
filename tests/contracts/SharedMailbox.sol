// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

/// Takes batches for many services. A batch is named by its root and its sender together.
contract SharedMailbox {
    struct Batch {
        uint64 fee;
        uint32 createdBlock;
    }

    event BatchCreated(bytes32 indexed root, address sender, address indexed avs, uint32 createdBlock);

    mapping(uint8 kind => mapping(bytes32 id => Batch)) public batches;

    function create(bytes32 root, address sender, address avs) external {
        batches[1][keccak256(abi.encodePacked(root, sender))] = Batch(7, uint32(block.number));
        emit BatchCreated(root, sender, avs, uint32(block.number));
    }
}

/// Takes the answers to the mailbox's batches, at an address of its own. Its "signature" is the digest itself.
contract BatchVerifier {
    struct Answer {
        uint32 answeredBlock;
        uint8 status;
        bytes32 answer;
    }

    event BatchAnswered(bytes32 indexed root, address sender, bytes32 answer);

    address public aggregator;
    mapping(bytes32 id => Answer) public answers;

    constructor() {
        aggregator = msg.sender;
    }

    function respond(bytes32 root, bytes32 digest, address sender, bytes32 answer) external {
        require(msg.sender == aggregator, "Aggregator must be the caller");
        bytes32 id = keccak256(abi.encodePacked(root, sender));
        bytes32 inner = keccak256(abi.encode(id, answer));
        require(digest == keccak256(abi.encode(keccak256("BatchVerifier::Answer"), inner)), "signature is invalid");
        answers[id] = Answer(uint32(block.number), 2, answer);
        emit BatchAnswered(root, sender, answer);
    }
}
