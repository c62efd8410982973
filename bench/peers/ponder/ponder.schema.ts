import { onchainTable } from "ponder";

export const task = onchainTable("task", (t) => ({
  index: t.integer().primaryKey(),
  createdBlock: t.integer(),
  message: t.hex(),
  quorumNumbers: t.hex(),
  threshold: t.integer(),
  blockNumber: t.bigint(),
  blockHash: t.hex(),
  txHash: t.hex(),
}));
