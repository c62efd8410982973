"""A local world for the demo and the tests: chain, contract, operators, and an emulator of the hosted operator.

Nothing of it runs in production. The chain (anvil) and the contract are real, and the contract verifies the signatures.
The hosted operator is an **emulator**, written after AltLayer's public documentation.
"""
