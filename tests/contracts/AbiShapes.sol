// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

/// Encodes and decodes values of many shapes, as the compiler lays them out. `encoded` and `decoded` are of the same values.
contract AbiShapes {
    struct Point {
        int24 x;
        int256 y;
    }

    struct Order {
        uint64 id;
        string name;
        Point[] path;
        bytes4 kind;
        bool isOpen;
    }

    function numbers() external pure returns (bytes memory) {
        return abi.encode(
            type(uint8).max, type(int8).min, int16(-2), type(int256).min, type(uint256).max, int40(-1), true, false
        );
    }

    function fixedBytes() external pure returns (bytes memory) {
        bytes1 one = 0xff;
        bytes3 three = 0x010203;
        bytes32 whole = keccak256("whole");
        return abi.encode(one, three, whole, 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed);
    }

    function octets() external pure returns (bytes memory) {
        return abi.encode(bytes(""), "", bytes(hex"00"), unicode"größer als 32 Bytes, und über einem Wort hinaus");
    }

    function arrays() external pure returns (bytes memory) {
        int8[] memory none = new int8[](0);
        int8[3] memory three = [int8(-1), 0, 1];
        uint16[][] memory nested = new uint16[][](3);
        nested[0] = new uint16[](2);
        nested[0][1] = 7;
        nested[2] = new uint16[](1);
        nested[2][0] = 65535;
        string[2] memory names = ["a", "b"];
        return abi.encode(none, three, nested, names);
    }

    function deep() external pure returns (bytes memory) {
        bytes[][2][] memory all = new bytes[][2][](2);
        all[0][0] = new bytes[](1);
        all[0][0][0] = hex"010203";
        all[0][1] = new bytes[](0);
        all[1][0] = new bytes[](0);
        all[1][1] = new bytes[](2);
        all[1][1][1] = new bytes(33);
        return abi.encode(all);
    }

    function order(uint64 id) public pure returns (Order memory made) {
        made.id = id;
        made.name = "sell";
        made.path = new Point[](2);
        made.path[0] = Point(-8388608, -1);
        made.path[1] = Point(8388607, 1);
        made.kind = 0xdeadbeef;
        made.isOpen = id % 2 == 1;
    }

    function structs() external pure returns (bytes memory) {
        Order[] memory orders = new Order[](2);
        orders[0] = order(1);
        orders[1] = order(2);
        return abi.encode(orders, Point(-3, 4), order(3));
    }

    /// The same as `structs`, from data: reverts where the data is none of these types.
    function structsAgain(bytes calldata data) external pure returns (bytes memory) {
        (Order[] memory orders, Point memory point, Order memory last) = abi.decode(data, (Order[], Point, Order));
        return abi.encode(orders, point, last);
    }

    /// The same as `deep`, from data.
    function deepAgain(bytes calldata data) external pure returns (bytes memory) {
        return abi.encode(abi.decode(data, (bytes[][2][])));
    }
}
