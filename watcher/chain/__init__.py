"""The reading of the chain: tasks and responses as the contract emitted them, and the contract's word for each."""
