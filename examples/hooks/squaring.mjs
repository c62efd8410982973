// The squaring hook in JavaScript for Node. Run it with: target = "exec:node squaring.mjs"
// A request comes on descriptor 3, one a line; its verdict goes to descriptor 4. console.log goes to the log.

import { createReadStream, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';

/**
 * Return the verdict on a task, whose fields docs/hook.schema.json lists.
 * @param {{ message: string }} task
 */
function respond(task) {
  const size = (task.message.length - 2) / 2;
  if (size !== 32) {
    return { verdict: 'skip', reason: `the message is ${size} bytes long, not 32` };
  }
  const number = BigInt(task.message);
  const square = BigInt.asUintN(256, number * number);
  return { verdict: 'answer', response: '0x' + square.toString(16).padStart(64, '0') };
}

for await (const line of createInterface({ input: createReadStream('', { fd: 3 }) })) {
  const { id, task } = JSON.parse(line);
  let verdict;
  try {
    verdict = respond(task);
  } catch (error) {
    verdict = { verdict: 'failed', reason: String(error) };
  }
  writeSync(4, JSON.stringify({ version: 1, id, ...verdict }) + '\n');
}
