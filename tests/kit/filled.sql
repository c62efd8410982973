-- The rows of a filled ledger, for tasks n = 1, 2, ... with index n - 1; see filled.py, which gives the parameters.

CREATE TEMP TABLE numbers (n INTEGER PRIMARY KEY, block INTEGER, state TEXT, answered INTEGER, tag TEXT);

WITH RECURSIVE up (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < :tasks)
INSERT INTO numbers
SELECT n, :start_block + n / :per_block,
  CASE
    WHEN n = 50 THEN 'blocked'
    WHEN n > :tasks - :open THEN CASE n % 16
      WHEN 0 THEN 'seen' WHEN 1 THEN 'ready' WHEN 2 THEN 'computed' WHEN 3 THEN 'waiting' WHEN 4 THEN 'unknown'
      WHEN 5 THEN 'accepted' ELSE 'responded' END
    WHEN (:tasks - n) % 20 THEN 'final'
    ELSE CASE (:tasks - n) / 20 % 7
      WHEN 0 THEN 'expired' WHEN 1 THEN 'final_other' WHEN 2 THEN 'orphaned' WHEN 3 THEN 'failed' WHEN 4 THEN 'skipped'
      WHEN 5 THEN 'quarantined' ELSE 'delivered' END
  END,
  0, printf('%020d', n)
FROM up;

UPDATE numbers SET answered = 1 WHERE state IN ('final', 'final_other', 'responded');

INSERT INTO sources (
  id, chain_id, task_manager, start_block, cursor_block, cursor_hash, head_block, final_block, final_hash,
  firm_block, firm_hash, created_at_ms, begun_block, begun_closed_block)
SELECT 1, :chain_id, :manager, :start_block, :head_block, zeroblob(32), :head_block, :final_block, zeroblob(32),
  :final_block, zeroblob(32), :now_ms, :start_block, :start_block;

INSERT INTO blocks SELECT 1, :head_block - n, CAST('block.......' || tag AS BLOB) FROM numbers WHERE n <= :blocks;

INSERT INTO tasks (
  id, source_id, task_index, task_hash, created_block, message, quorum_numbers, quorum_threshold, deadline_block,
  log, block_number, block_hash, created_tx_hash, log_index, canonical, state,
  due_at_ms, due_block, lease_until_ms, fence, hook_attempts, attempts, look_again, seen_at_ms, updated_at_ms,
  response, hook_version, responded_block, responded_tx_hash, response_hash)
SELECT n, 1, n - 1, CAST('task........' || tag AS BLOB), block, CAST('message.....' || tag AS BLOB), x'0001', 67,
  block + :window, zeroblob(160), block, CAST('block' || block AS BLOB), CAST('created.....' || tag AS BLOB),
  n % :per_block, state NOT IN ('orphaned', 'quarantined'), state,
  :now_ms, 0, 0, 2, 1, 1, 0, :now_ms - (:tasks - n) * 1000, :now_ms - (:tasks - n) * 1000,
  iif(answered, CAST('answer......' || tag AS BLOB), NULL), 'hook 1', iif(answered, block + 1, NULL),
  iif(answered, CAST('answer tx...' || tag AS BLOB), NULL), iif(answered, CAST('response....' || tag AS BLOB), NULL)
FROM numbers;

INSERT INTO responses (
  source_id, task_index, message, log, response_hash, block_number, block_hash, tx_hash, log_index)
SELECT 1, n - 1, CAST('answer......' || tag AS BLOB), zeroblob(64), CAST('response....' || tag AS BLOB), block + 1,
  CAST('block' || (block + 1) AS BLOB), CAST('answer tx...' || tag AS BLOB), n % :per_block
FROM numbers WHERE answered;

INSERT INTO attempts (
  id, task_id, kind, number, fence, api, began_at_ms, ended_at_ms, duration_ms, outcome, http_status)
SELECT 2 * n - 1 + post, n, iif(post, 'post', 'hook'), 1, 1 + post, iif(post, 'proxy', NULL), :now_ms, :now_ms, 5,
  iif(post, 'accepted', 'answered'), iif(post, 200, NULL)
FROM numbers, (SELECT 0 AS post UNION SELECT 1)
ORDER BY n, post;

CREATE TEMP TABLE steps (step INTEGER PRIMARY KEY, before TEXT, state TEXT);

INSERT INTO steps VALUES
  (0, NULL, 'seen'), (1, 'seen', 'ready'), (2, 'ready', 'computed'), (3, 'computed', 'sending'),
  (4, 'sending', 'accepted'), (5, 'accepted', 'responded'), (6, 'responded', 'final');

INSERT INTO journal (task_id, at_ms, from_state, to_state, why, attempt_id)
SELECT n, :now_ms, before, steps.state, 'the reason of step ' || step, iif(step IN (3, 4), 2 * n, NULL)
FROM numbers, steps
WHERE step < 6 OR numbers.state = 'final'
ORDER BY n, step;
