import { readFileSync } from "node:fs";
import { createConfig } from "ponder";

const abi = JSON.parse(readFileSync(process.env.BENCH_ABI!, "utf8"));

export default createConfig({
  database: { kind: "pglite", directory: "./pglite" },
  chains: { local: { id: Number(process.env.BENCH_CHAIN_ID), rpc: process.env.BENCH_RPC_URL! } },
  contracts: {
    TaskManager: {
      chain: "local",
      abi,
      address: process.env.BENCH_ADDRESS as `0x${string}`,
      startBlock: Number(process.env.BENCH_START_BLOCK),
    },
  },
});
