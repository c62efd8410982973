"""BN254 in plain integers: against fixed vectors, and against py_ecc as an independent implementation."""

import sys
from importlib import import_module
from typing import Any

from eth_abi.abi import encode
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from watcher.devnet import bls
from watcher.devnet.contract import RESPONSE, TASK, TaskStruct, decode_params_raw, response_digest, selector
from watcher.devnet.operators import Operators, make_operator

SCALARS = st.integers(min_value=0, max_value=bls.R + 5)
DIGESTS = st.binary(min_size=32, max_size=32)
DIGEST_OF_TEST = keccak(b"test")


def import_oracle() -> Any:
    """py_ecc, whose types are of no help here, without its side effect.

    On import it lifts the interpreter's recursion limit for good, and deeply nested JSON in any later test would
    overflow the C stack instead of raising RecursionError.
    """
    limit = sys.getrecursionlimit()
    try:
        return import_module("py_ecc.optimized_bn128")
    finally:
        sys.setrecursionlimit(limit)


oracle = import_oracle()


def oracle_g1(point: bls.G1Point) -> Any:
    return oracle.Z1 if point is None else (oracle.FQ(point[0]), oracle.FQ(point[1]), oracle.FQ.one())


def oracle_g2(point: bls.G2Point) -> Any:
    return oracle.Z2 if point is None else (oracle.FQ2(point[0]), oracle.FQ2(point[1]), oracle.FQ2.one())


def test_hash_to_g1_gives_the_known_point() -> None:
    assert bls.hash_to_g1(DIGEST_OF_TEST) == (
        4957911073761892704788124868123107662144904649328195370976075345778004311683,
        11791497395424596176993218408410379127432618512325129070313585183983170488218,
    )


def test_signature_of_the_known_key_is_the_known_point() -> None:
    assert bls.sign(69, DIGEST_OF_TEST) == (
        4968026213923423621273444701079242575019302706787065282525975768553996316354,
        15430400523801026999401764674620254795264444184304681258186637808742906188522,
    )


def test_public_key_in_g2_is_written_imaginary_part_first() -> None:
    assert bls.g2_words(bls.public_keys(69)[1]) == (
        (
            5334410886741819556325359147377682006012228123419628681352847439302316235957,
            19101821850089705274637533855249918363070101489527618151493230256975900223847,
        ),
        (
            4185483097059047421902184823581361466320657066600218863748375739772335928910,
            354176189041917478648604979334478067325821134838555150300539079146482658331,
        ),
    )


def test_infinity_is_written_as_zeros() -> None:
    assert bls.g1_words(bls.g1_sum([])) == (0, 0)
    assert bls.g2_words(bls.g2_sum([])) == ((0, 0), (0, 0))


@given(SCALARS, DIGESTS)
@settings(max_examples=15)
def test_multiplication_in_g1_agrees_with_py_ecc(scalar: int, digest: bytes) -> None:
    point = bls.hash_to_g1(digest)
    assert oracle.is_on_curve(oracle_g1(point), oracle.b)
    assert oracle.eq(oracle_g1(bls.g1_mul(point, scalar)), oracle.multiply(oracle_g1(point), scalar % bls.R))


@given(SCALARS)
@settings(max_examples=8)
def test_both_public_keys_agree_with_py_ecc(secret: int) -> None:
    g1, g2 = bls.public_keys(secret)
    assert oracle.eq(oracle_g1(g1), oracle.multiply(oracle.G1, secret % bls.R))
    assert oracle.eq(oracle_g2(g2), oracle.multiply(oracle.G2, secret % bls.R))


@given(SCALARS, SCALARS)
@settings(max_examples=30)
def test_sums_of_multiples_are_multiples_of_sums(a: int, b: int) -> None:
    assert bls.g1_sum([bls.g1_mul(bls.G1, a), bls.g1_mul(bls.G1, b)]) == bls.g1_mul(bls.G1, a + b)
    assert bls.g2_sum([bls.g2_mul(bls.G2, a), bls.g2_mul(bls.G2, b)]) == bls.g2_mul(bls.G2, a + b)


def test_sums_handle_doubling_opposites_and_infinity() -> None:
    point = bls.g1_mul(bls.G1, 7)
    assert bls.g1_sum([point, point]) == bls.g1_mul(bls.G1, 14)
    assert bls.g1_sum([point, bls.g1_negate(point)]) is None
    assert bls.g1_sum([None, point, None]) == point
    assert bls.g1_mul(bls.G1, bls.R) is None
    assert bls.g1_negate(None) is None


def test_signature_satisfies_the_pairing_equation_for_its_digest_only() -> None:
    _, public = bls.public_keys(123456789)
    left = oracle.pairing(oracle.G2, oracle_g1(bls.sign(123456789, DIGEST_OF_TEST)))
    assert left == oracle.pairing(oracle_g2(public), oracle_g1(bls.hash_to_g1(DIGEST_OF_TEST)))
    assert left != oracle.pairing(oracle_g2(public), oracle_g1(bls.hash_to_g1(keccak(b"other"))))


@given(DIGESTS, st.sets(st.integers(0, 3), max_size=3))
@settings(max_examples=10)
def test_the_aggregate_is_the_sum_of_the_signatures_once_per_quorum(digest: bytes, absent: set[int]) -> None:
    members = [make_operator(f"op {i}", 10 * (i + 1), b"\x00\x01" if i % 2 else b"\x00") for i in range(4)]
    made = Operators(members).aggregate(digest, b"\x00\x01", 5, absent)
    counted = [o for q in (0, 1) for i, o in enumerate(members) if q in o.quorum_numbers and i not in absent]
    assert made.sigma == bls.g1_sum(o.sign(digest) for o in counted)
    assert made.apk_g2 == bls.g2_sum(o.pk_g2 for o in counted)
    assert [o.id for o in made.non_signers] == sorted(members[i].id for i in absent)


def test_operators_registered_after_the_reference_block_take_no_part() -> None:
    early, late = make_operator("early", 1, b"\x00", 5), make_operator("late", 1, b"\x00", 6)
    made = Operators([early, late]).aggregate(DIGEST_OF_TEST, b"\x00", 5)
    assert made.sigma == early.sign(DIGEST_OF_TEST)
    assert not made.non_signers
    assert made.percent_signed == 100


def test_a_secret_key_is_not_in_the_repr() -> None:
    operator = make_operator("secret", 1, b"\x00")
    assert str(operator.secret) not in repr(operator)


def test_digest_and_task_hash_match_the_known_vectors() -> None:
    task = TaskStruct(3003011, 66, bytes.fromhex("1234"), b"\x00")
    assert task.hash().hex() == "a4ab598f7807886a600c9c1116d8266ebfe68efdf642e926df14d5d6d9512a0d"
    assert (
        response_digest(100, bytes.fromhex("abcd")).hex()
        == "6ed3cb0202b0d5b8d03b1d993798d0c8947eb42694b6bbf129a1cee62ccac6d8"
    )
    assert response_digest(7, b"\x2a").hex() == "b6915701c9e5bb3204260da41e761dea1ed87bb4c456ae53cf26c767224374e7"
    assert selector("respondToTask").hex() == "79b08c8d"


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=99), st.binary(max_size=9))
def test_params_raw_is_read_back_as_it_was_written(index: int, block: int, message: bytes, quorums: bytes) -> None:
    task = TaskStruct(block, 66, message, quorums)
    assert decode_params_raw(encode([TASK, RESPONSE], [task.values(), (index, message)])) == (task, index, message)
