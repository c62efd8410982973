// Stores each task, as the naive script does, and writes time and CPU at the first and at the last one.
import { appendFileSync } from "node:fs";
import { ponder } from "ponder:registry";
import { task } from "ponder:schema";

const expected = Number(process.env.BENCH_TASKS);
let count = 0;

function mark() {
  const { user, system } = process.cpuUsage();
  const mark = { count, atMs: Date.now(), cpuUs: user + system, residentMib: process.memoryUsage().rss / 2 ** 20 };
  appendFileSync(process.env.BENCH_MARKS!, JSON.stringify(mark) + "\n");
}

ponder.on("TaskManager:NewTaskCreated", async ({ event, context }: any) => {
  if (count === 0) mark();
  await context.db.insert(task).values({
    index: event.args.taskIndex,
    createdBlock: event.args.task.taskCreatedBlock,
    message: event.args.task.message,
    quorumNumbers: event.args.task.quorumNumbers,
    threshold: event.args.task.quorumThresholdPercentage,
    blockNumber: event.block.number,
    blockHash: event.block.hash,
    txHash: event.transaction.hash,
  });
  count += 1;
  if (count === expected) mark();
});
