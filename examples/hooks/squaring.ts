// The squaring hook in TypeScript, for Node 22.18 or later. Run it with: target = "exec:node squaring.ts"
// A request comes on descriptor 3, one a line; its verdict goes to descriptor 4. console.log goes to the log.

import { createReadStream, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';

interface Task {
  message: string; // 0x hex
}

type Verdict = { verdict: 'answer'; response: string } | { verdict: 'skip' | 'failed'; reason: string };

/** Return the verdict on a task, whose fields docs/hook.schema.json lists. */
function respond(task: Task): Verdict {
  const size = (task.message.length - 2) / 2;
  if (size !== 32) {
    return { verdict: 'skip', reason: `the message is ${size} bytes long, not 32` };
  }
  const number = BigInt(task.message);
  const square = BigInt.asUintN(256, number * number);
  return { verdict: 'answer', response: '0x' + square.toString(16).padStart(64, '0') };
}

for await (const line of createInterface({ input: createReadStream('', { fd: 3 }) })) {
  const { id, task } = JSON.parse(line) as { id: string; task: Task };
  let verdict: Verdict;
  try {
    verdict = respond(task);
  } catch (error) {
    verdict = { verdict: 'failed', reason: String(error) };
  }
  writeSync(4, JSON.stringify({ version: 1, id, ...verdict }) + '\n');
}
