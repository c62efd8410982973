"""The operators of the local AVS: keys, stakes, signatures, and their aggregate."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_abi.abi import encode
from eth_hash.auto import keccak

from watcher.devnet import bls


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator. It counts for tasks from `registered_block` on, as in the contract."""

    secret: int = field(repr=False)
    pk_g1: bls.G1Point
    pk_g2: bls.G2Point
    id: bytes  # 32 bytes: keccak256(abi.encode(pk_g1))
    stake: int
    quorum_numbers: bytes
    registered_block: int

    def sign(self, digest: bytes) -> bls.G1Point:
        return bls.sign(self.secret, digest)


def make_operator(seed: str, stake: int, quorum_numbers: bytes, registered_block: int = 0) -> Operator:
    """Return an operator whose keys depend on the seed alone, so that runs of the devnet can be repeated."""
    secret = int.from_bytes(keccak(seed.encode()), "big") % bls.R
    pk_g1, pk_g2 = bls.public_keys(secret)
    operator_id = keccak(encode(["uint256", "uint256"], bls.g1_words(pk_g1)))
    return Operator(secret, pk_g1, pk_g2, operator_id, stake, quorum_numbers, registered_block)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One aggregated signature. `percents` is the signed share of the stake of each quorum."""

    non_signers: Sequence[Operator]  # ascending by id
    quorum_apks: Sequence[bls.G1Point]
    apk_g2: bls.G2Point
    sigma: bls.G1Point
    percents: Sequence[float]
    non_signer_counts: Sequence[int]  # per quorum

    @property
    def percent_signed(self) -> float:
        """Return the signed share of the stake in the weakest quorum, in percent."""
        return min(self.percents, default=0.0)

    def values(self) -> tuple[Any, ...]:
        """Return the contract's `NonSignerStakesAndSignature`. The devnet's contract ignores its indices: all are 0."""
        quorums = len(self.quorum_apks)
        return (
            [0] * len(self.non_signers),
            [bls.g1_words(operator.pk_g1) for operator in self.non_signers],
            [bls.g1_words(apk) for apk in self.quorum_apks],
            bls.g2_words(self.apk_g2),
            bls.g1_words(self.sigma),
            [0] * quorums,
            [0] * quorums,
            [[0] * count for count in self.non_signer_counts],
        )


class Operators:
    """The operators of one task manager, in the order they registered."""

    def __init__(self, members: Sequence[Operator] = ()) -> None:
        self.members = list(members)
        # A burst of tasks needs the same few key sums; a sum in G2 costs as much as a signature.
        self._apks: dict[tuple[bytes, bytes], tuple[Sequence[bls.G1Point], bls.G2Point]] = {}

    def any_in(self, quorum_numbers: bytes, reference_block: int) -> bool:
        """Return True if an operator was in one of these quorums at that block."""
        present = (o for o in self.members if o.registered_block <= reference_block)
        return any(set(quorum_numbers) & set(o.quorum_numbers) for o in present)

    def aggregate(
        self, digest: bytes, quorum_numbers: bytes, reference_block: int, absent: Collection[int] = ()
    ) -> Aggregate:
        """Return the aggregated signature of all operators registered by `reference_block`, except the absent ones.

        A signer counts once for each of the quorums it is in, in the signature and in the key.

        Args:
            digest: the 32 bytes to sign.
            quorum_numbers: the quorums, a byte each.
            reference_block: the block whose operators count.
            absent: the positions of operators that do not sign.
        """
        present = [(i, o) for i, o in enumerate(self.members) if o.registered_block <= reference_block]
        quorums = [[(i, o) for i, o in present if q in o.quorum_numbers] for q in quorum_numbers]
        signers = [o for members in quorums for i, o in members if i not in absent]
        silent = {o.id: o for members in quorums for i, o in members if i in absent}
        quorum_apks, apk_g2 = self._key_sums([[o for _, o in members] for members in quorums], signers)
        percents = [
            100 * sum(o.stake for i, o in members if i not in absent) / max(1, sum(o.stake for _, o in members))
            for members in quorums
        ]
        return Aggregate(
            non_signers=[silent[operator_id] for operator_id in sorted(silent)],
            quorum_apks=quorum_apks,
            apk_g2=apk_g2,
            # The sum of the signatures, in one multiplication instead of one for each signer.
            sigma=bls.sign(sum(o.secret for o in signers), digest),
            percents=percents,
            non_signer_counts=[sum(i in absent for i, _ in members) for members in quorums],
        )

    def _key_sums(
        self, quorums: Sequence[Sequence[Operator]], signers: Sequence[Operator]
    ) -> tuple[Sequence[bls.G1Point], bls.G2Point]:
        key = (b"|".join(b"".join(o.id for o in members) for members in quorums), b"".join(o.id for o in signers))
        if key not in self._apks:
            if len(self._apks) >= 64:
                self._apks.clear()
            apks = [bls.g1_sum(o.pk_g1 for o in members) for members in quorums]
            self._apks[key] = (apks, bls.g2_sum(o.pk_g2 for o in signers))
        return self._apks[key]
