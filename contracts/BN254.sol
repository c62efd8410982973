// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The alt_bn128 curve through the EVM's precompiles
/// @notice Just what checking one aggregated BLS signature needs. Affine (0, 0) stands for the point at infinity.
/// @dev Coordinates of G2 are [imaginary, real], the order of EIP-197; swapping them makes the precompile call fail.
library BN254 {
    struct G1Point {
        uint256 X;
        uint256 Y;
    }

    struct G2Point {
        uint256[2] X;
        uint256[2] Y;
    }

    /// @dev The prime of the base field.
    uint256 internal constant P = 21888242871839275222246405745257275088696311157297823662689037894645226208583;
    /// @dev The order of the group.
    uint256 internal constant R = 21888242871839275222246405745257275088548364400416034343698204186575808495617;
    /// @dev (P + 1) / 4: since P = 3 mod 4, raising a square to this power gives its root.
    uint256 private constant ROOT_EXPONENT = 0xc19139cb84c680a6e14116da060561765e05aa45a1c72a34f082305b61f3f52;
    /// @dev Two pairings cost 113,000; the cap keeps a malformed point from burning the whole transaction.
    uint256 private constant PAIRING_GAS = 120000;

    function generatorG1() internal pure returns (G1Point memory) {
        return G1Point(1, 2);
    }

    /// @notice The generator of G2, negated.
    function negatedGeneratorG2() internal pure returns (G2Point memory) {
        return G2Point(
            [
                11559732032986387107991004021392285783925812861821192530917403151452391805634,
                10857046999023057135944570762232829481370756359578518086990519993285655852781
            ],
            [
                17805874995975841540914202342111839520379459829704422454583296818431106115052,
                13392588948715843804641432497768002650278120570034223513918757245338268106653
            ]
        );
    }

    function isInfinity(G1Point memory a) internal pure returns (bool) {
        return a.X == 0 && a.Y == 0;
    }

    function negate(G1Point memory a) internal pure returns (G1Point memory) {
        return isInfinity(a) ? a : G1Point(a.X, P - (a.Y % P));
    }

    /// @dev Reverts when a point is not on the curve, because the precompile does.
    function add(G1Point memory a, G1Point memory b) internal view returns (G1Point memory sum) {
        uint256[4] memory input = [a.X, a.Y, b.X, b.Y];
        bool success;
        assembly ("memory-safe") {
            success := staticcall(gas(), 6, input, 0x80, sum, 0x40)
        }
        require(success, "BN254: point is not on the curve");
    }

    function multiply(G1Point memory a, uint256 scalar) internal view returns (G1Point memory product) {
        uint256[3] memory input = [a.X, a.Y, scalar];
        bool success;
        assembly ("memory-safe") {
            success := staticcall(gas(), 7, input, 0x60, product, 0x40)
        }
        require(success, "BN254: point is not on the curve");
    }

    /// @notice Maps a digest to the curve: from x = digest mod P upwards, the first x that has a point.
    /// @dev The loop is not constant in time, which is harmless: the digest is public.
    function hashToG1(bytes32 digest) internal view returns (G1Point memory) {
        uint256 x = uint256(digest) % P;
        while (true) {
            uint256 square = addmod(mulmod(mulmod(x, x, P), x, P), 3, P);
            uint256 y = power(square, ROOT_EXPONENT);
            if (mulmod(y, y, P) == square) return G1Point(x, y);
            x = addmod(x, 1, P);
        }
        revert("unreachable");
    }

    /// @notice Is e(a1, a2) * e(b1, b2) the identity?
    /// @return success false when an input is not on its curve (or not in the subgroup of G2)
    /// @return equal the answer, meaningless unless `success`
    function pairing(G1Point memory a1, G2Point memory a2, G1Point memory b1, G2Point memory b2)
        internal
        view
        returns (bool success, bool equal)
    {
        uint256[12] memory input = [
            a1.X, a1.Y, a2.X[0], a2.X[1], a2.Y[0], a2.Y[1],
            b1.X, b1.Y, b2.X[0], b2.X[1], b2.Y[0], b2.Y[1]
        ];
        uint256[1] memory output;
        assembly ("memory-safe") {
            success := staticcall(PAIRING_GAS, 8, input, 0x180, output, 0x20)
        }
        equal = output[0] == 1;
    }

    function power(uint256 value, uint256 exponent) private view returns (uint256) {
        uint256[6] memory input = [32, 32, 32, value, exponent, P];
        uint256[1] memory output;
        bool success;
        assembly ("memory-safe") {
            success := staticcall(gas(), 5, input, 0xc0, output, 0x20)
        }
        require(success, "BN254: modular exponentiation failed");
        return output[0];
    }
}
