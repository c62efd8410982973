// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

/// Gives out indices from `first` on, and shows how many there are in three ways.
contract TaskCounter {
    event TaskCreated(uint32 indexed index, string question);
    event TaskAnswered(uint32 indexed index, string answer);

    uint32 public immutable first;
    uint32 public nextIndex;
    mapping(uint32 index => bytes32) public questions;
    mapping(uint32 index => bytes32) public answers;

    constructor(uint32 first_) {
        first = first_;
        nextIndex = first_;
    }

    function count() external view returns (uint32) {
        return nextIndex - first;
    }

    function create(string calldata question) external {
        questions[nextIndex] = keccak256(abi.encode(question));
        emit TaskCreated(nextIndex++, question);
    }

    function answer(uint32 index, string calldata text) external {
        answers[index] = keccak256(abi.encode(text));
        emit TaskAnswered(index, text);
    }
}
