// Compiles the contracts to the artifacts that ship with the package, one for each contract that is deployed.
//
//   npm install --ignore-scripts --prefix DIR solc@0.8.37
//   node contracts/compile.mjs --solc DIR/node_modules/solc [--out watcher/devnet]
//
// Without --out one object goes to standard output: the artifacts by file name. The same sources and settings always
// give the same bytes.

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const REGISTRY = ["BN254.sol", "OperatorRegistry.sol", "TaskKeeper.sol"];
const WIZARD = [...REGISTRY, "ResponseWindow.sol", "WizardTasks.sol"];
// File name of the artifact: the contract, and every source it is made of.
const ARTIFACTS = {
  "task_manager.json": ["TaskManager", [...WIZARD, "TaskManager.sol"]],
  "bridge_task_manager.json": ["BridgeTaskManager", [...WIZARD, "BridgeTaskManager.sol"]],
  "squaring_task_manager.json": ["SquaringTaskManager", [...REGISTRY, "ResponseWindow.sol", "SquaringTaskManager.sol"]],
  "chainbase_task_manager.json": ["ChainbaseTaskManager", [...REGISTRY, "ChainbaseTaskManager.sol"]],
  "proxy.json": ["Proxy", ["Proxy.sol"]],
};
const SETTINGS = {
  optimizer: { enabled: true, runs: 200 },
  evmVersion: "cancun",
  // The hash of the metadata would tie the bytecode to comments and to file names.
  metadata: { bytecodeHash: "none", appendCBOR: false },
};

const { values } = parseArgs({ options: { solc: { type: "string" }, out: { type: "string" } } });
if (!values.solc) {
  console.error("usage: node compile.mjs --solc DIR/node_modules/solc [--out DIR]");
  process.exit(64);
}

const here = dirname(fileURLToPath(import.meta.url));
const solc = createRequire(import.meta.url)(resolve(values.solc));

function compile(name, sources) {
  const texts = Object.fromEntries(sources.map((file) => [file, { content: readFileSync(join(here, file), "utf8") }]));
  const wanted = { [`${name}.sol`]: { [name]: ["abi", "evm.bytecode.object"] } };
  const input = { language: "Solidity", sources: texts, settings: { ...SETTINGS, outputSelection: wanted } };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const problems = (output.errors ?? []).map((problem) => problem.formattedMessage);
  if (problems.length) {
    console.error(problems.join("\n"));
    process.exit(1);
  }
  const hash = createHash("sha256");
  for (const file of sources) hash.update(`${file}\0`).update(texts[file].content).update("\0");
  const contract = output.contracts[`${name}.sol`][name];
  return {
    contract: name,
    compiler: solc.version().split(".Emscripten")[0],
    settings: SETTINGS,
    sources,
    source_sha256: hash.digest("hex"),
    abi: contract.abi,
    bytecode: `0x${contract.evm.bytecode.object}`,
  };
}

const made = Object.entries(ARTIFACTS).map(([file, [name, sources]]) => [file, compile(name, sources)]);
if (values.out) {
  for (const [file, artifact] of made) writeFileSync(join(values.out, file), `${JSON.stringify(artifact, null, 1)}\n`);
} else process.stdout.write(`${JSON.stringify(Object.fromEntries(made), null, 1)}\n`);
