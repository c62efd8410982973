"""BLS signatures on BN254 (alt_bn128) as EigenLayer's contracts check them, in plain integers.

Signatures and one public key live in G1, the other public key in G2. Points are affine tuples; None is infinity.
A coordinate in G2 is `(real, imaginary)` here and `[imaginary, real]` in Solidity (EIP-197); `g2_words` swaps them.
The code is not constant in time, so it must sign only with keys of a local chain.
"""

from collections.abc import Iterable
from typing import Generic, TypeVar

P = 21888242871839275222246405745257275088696311157297823662689037894645226208583  # the base field
R = 21888242871839275222246405745257275088548364400416034343698204186575808495617  # the order of the groups

G1Point = tuple[int, int] | None
Fp2 = tuple[int, int]
G2Point = tuple[Fp2, Fp2] | None
T = TypeVar("T", int, Fp2)

G1: G1Point = (1, 2)
G2: G2Point = (
    (
        10857046999023057135944570762232829481370756359578518086990519993285655852781,
        11559732032986387107991004021392285783925812861821192530917403151452391805634,
    ),
    (
        8495653923123431417604973247489272438418190587263600148770280649306958101930,
        4082367875863433681332203403145435568316851327593401208105741076214120093531,
    ),
)


class _Field(Generic[T]):
    """The operations that the curve formulas need, so that one set of formulas serves both groups."""

    zero: T
    unity: T

    def mul(self, a: T, b: T) -> T:
        raise NotImplementedError

    def add(self, a: T, b: T) -> T:
        raise NotImplementedError

    def sub(self, a: T, b: T) -> T:
        raise NotImplementedError

    def invert(self, a: T) -> T:
        raise NotImplementedError


class _Fp(_Field[int]):
    zero, unity = 0, 1

    def mul(self, a: int, b: int) -> int:
        return a * b % P

    def add(self, a: int, b: int) -> int:
        return (a + b) % P

    def sub(self, a: int, b: int) -> int:
        return (a - b) % P

    def invert(self, a: int) -> int:
        return pow(a, -1, P)


class _Fp2(_Field[Fp2]):
    """Pairs a + b*i with i^2 = -1."""

    zero, unity = (0, 0), (1, 0)

    def mul(self, a: Fp2, b: Fp2) -> Fp2:
        return (a[0] * b[0] - a[1] * b[1]) % P, (a[0] * b[1] + a[1] * b[0]) % P

    def add(self, a: Fp2, b: Fp2) -> Fp2:
        return (a[0] + b[0]) % P, (a[1] + b[1]) % P

    def sub(self, a: Fp2, b: Fp2) -> Fp2:
        return (a[0] - b[0]) % P, (a[1] - b[1]) % P

    def invert(self, a: Fp2) -> Fp2:
        norm = pow(a[0] * a[0] + a[1] * a[1], -1, P)
        return a[0] * norm % P, -a[1] * norm % P


class _Curve(Generic[T]):
    """The curve y^2 = x^3 + b in Jacobian coordinates (X/Z^2, Y/Z^3); Z = 0 is infinity. No formula needs b."""

    def __init__(self, field: _Field[T]) -> None:
        self.f: _Field[T] = field

    def double(self, p: tuple[T, T, T]) -> tuple[T, T, T]:
        x, y, z = p
        mul, add, sub = self.f.mul, self.f.add, self.f.sub
        a, b = mul(x, x), mul(y, y)
        c = mul(b, b)
        xb = add(x, b)
        d = sub(sub(mul(xb, xb), a), c)
        d = add(d, d)
        e = add(add(a, a), a)
        x3 = sub(mul(e, e), add(d, d))
        c4 = add(add(c, c), add(c, c))
        yz = mul(y, z)
        return x3, sub(mul(e, sub(d, x3)), add(c4, c4)), add(yz, yz)

    def plus(self, p: tuple[T, T, T], q: tuple[T, T, T]) -> tuple[T, T, T]:
        if p[2] == self.f.zero:
            return q
        if q[2] == self.f.zero:
            return p
        mul, sub = self.f.mul, self.f.sub
        z1z1, z2z2 = mul(p[2], p[2]), mul(q[2], q[2])
        u1, u2 = mul(p[0], z2z2), mul(q[0], z1z1)
        s1, s2 = mul(mul(p[1], q[2]), z2z2), mul(mul(q[1], p[2]), z1z1)
        if u1 == u2:
            return self.double(p) if s1 == s2 else (self.f.unity, self.f.unity, self.f.zero)
        h, r = sub(u2, u1), sub(s2, s1)
        hh = mul(h, h)
        hhh, v = mul(h, hh), mul(u1, hh)
        x3 = sub(sub(sub(mul(r, r), hhh), v), v)
        return x3, sub(mul(r, sub(v, x3)), mul(s1, hhh)), mul(h, mul(p[2], q[2]))

    def lift(self, p: tuple[T, T] | None) -> tuple[T, T, T]:
        return (self.f.unity, self.f.unity, self.f.zero) if p is None else (p[0], p[1], self.f.unity)

    def lower(self, p: tuple[T, T, T]) -> tuple[T, T] | None:
        if p[2] == self.f.zero:
            return None
        inverse = self.f.invert(p[2])
        square = self.f.mul(inverse, inverse)
        return self.f.mul(p[0], square), self.f.mul(p[1], self.f.mul(square, inverse))

    def times(self, point: tuple[T, T] | None, scalar: int) -> tuple[T, T] | None:
        """Multiply four bits at a time, with a quarter of the additions of the plain ladder."""
        table = [self.lift(None), self.lift(point)]
        while len(table) < 16:
            table.append(self.plus(table[-1], table[1]))
        total = table[0]
        for shift in range((scalar % R).bit_length() // 4 * 4, -1, -4):
            for _ in range(4 if total[2] != self.f.zero else 0):
                total = self.double(total)
            if digit := (scalar % R) >> shift & 15:
                total = self.plus(total, table[digit])
        return self.lower(total)

    def sum(self, points: Iterable[tuple[T, T] | None]) -> tuple[T, T] | None:
        total = self.lift(None)
        for point in points:
            total = self.plus(total, self.lift(point))
        return self.lower(total)


_g1, _g2 = _Curve(_Fp()), _Curve(_Fp2())


def g1_mul(point: G1Point, scalar: int) -> G1Point:
    return _g1.times(point, scalar)


def g2_mul(point: G2Point, scalar: int) -> G2Point:
    return _g2.times(point, scalar)


def g1_sum(points: Iterable[G1Point]) -> G1Point:
    """Return the sum of signatures or of keys in G1; of no points it is infinity."""
    return _g1.sum(points)


def g2_sum(points: Iterable[G2Point]) -> G2Point:
    return _g2.sum(points)


def g1_negate(point: G1Point) -> G1Point:
    return None if point is None else (point[0], -point[1] % P)


def hash_to_g1(digest: bytes) -> tuple[int, int]:
    """Map a digest to a point by try-and-increment from x = digest mod P, as EigenLayer's BN254.hashToG1 does.

    The root is the one that the exponent (P + 1) / 4 gives, of either sign.
    """
    x = int.from_bytes(digest, "big") % P
    while True:
        square = (x * x * x + 3) % P
        y = pow(square, (P + 1) // 4, P)
        if y * y % P == square:
            return x, y
        x = (x + 1) % P


def sign(secret: int, digest: bytes) -> G1Point:
    """Return the signature of a 32-byte digest, signed without a prefix."""
    return g1_mul(hash_to_g1(digest), secret)


def public_keys(secret: int) -> tuple[G1Point, G2Point]:
    return g1_mul(G1, secret), g2_mul(G2, secret)


def g1_words(point: G1Point) -> tuple[int, int]:
    """Return a point as Solidity has it: infinity is (0, 0)."""
    return (0, 0) if point is None else point


def g2_words(point: G2Point) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return a point as Solidity has it: ([x imaginary, x real], [y imaginary, y real])."""
    return ((0, 0), (0, 0)) if point is None else ((point[0][1], point[0][0]), (point[1][1], point[1][0]))
