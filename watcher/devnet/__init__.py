"""A local stand-in for everything outside the program: chain, contract, operators and AltLayer's hosted operator.

For the demo and the tests; nothing of it runs in production. The chain (anvil) and the contract are real, the
signatures are really verified. The hosted operator is an **emulator**, written after AltLayer's public documentation.
"""
