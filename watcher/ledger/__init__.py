"""QUEUE: the ledger is the queue, the memory and the evidence. The only package that speaks SQL.

A verb takes a transaction (`Tx`) and changes rows; a question takes a connection and reads. `Ledger.write` runs a verb
and commits, `Ledger.read` answers a question. A batched verb takes many items and returns a result or an
error for each; `Ledger.write_item` runs it on all items that wait. The verbs, in the way of a task:

| file | verbs | called by | when |
|---|---|---|---|
| `source` | `open_source` | `open_ledger` | at the start |
| `ingest` | `record` | watch | blocks are read: tasks, responses and cursor, in one commit |
| `reorg` | `rewind`, `unread` | watch | read blocks are not on the chain any more, or never were |
| `finality` | `finalise` | watch | a block is final |
| `wakes` | `wake_due` | `record`, `finalise` | head or final block moves: which stages have due tasks |
| `marks` | `lower_head` | watch | no node shows the known head any more |
| `rescan` | `record_rescan` | recheck | blocks are read again, once confirmed and once final |
| | `request_rescan` | confirm | the contract proves an event that no read has shown |
| `outcomes` | `admitted` | admit | the block is deep enough, and the contract knows the task |
| `claims` | `claim` | respond, submit | due tasks are taken |
| | `release_each` | respond, submit | tasks are given back |
| | `make_due` | submit | an API can be reached again, or the settings have changed |
| `hook_results` | `keep_answers`, `keep_old_answers` | respond | the hook has answered, now or before a reorg |
| | `postpone`, `skip`, `retry_failed`, `give_up_failed` | respond | the hook has returned Later or Skip, or failed |
| `sending` | `begin`, `settle`, `record_late` | submit | before a POST; after it; after it, but the task is settled |
| | `recover_stale`, `recover_orphaned` | daemon, confirm | attempts lost their process, or their lease ran out |
| `outcomes` | `answered`, `delivered`, `not_there` | confirm | the verdict on a sent task |
| | `look_again`, `nothing_new`, `postponed` | confirm | a reading that decides nothing |
| | `final`, `taken_back`, `expired` | confirm | a final block decides |
| | `explained`, `never_there` | confirm | the reason of an expired task; a task the contract lacks |
| `absences` | `record`, `withdraw` | admit, confirm | a reading does not show a task, a response or an event |
| | `held_after_all` | confirm | the contract holds a task that ended for want of it |
| `coverage` | `extend` | reconcile | indices without a hole are read, and need not be read again |
| `source` | `record_contract`, `reset_deadlines` | drift | the contract is read again |
| `ingest` | `store_tasks` | reconcile | a hole is repaired |
| `source` | `note_event` | stages, jobs | something happens to the source as a whole |
| `backfill` | `record_times`, `record_senders` | backfill | block times and senders that no log has shown |
| `manual` | `retry`, `retry_each`, `skip` | `watcher tasks` | a person decides |
| `restore` | `note_loss`, `release` | daemon | the ledger is an older copy; a person ends the hold |
| `retention` | `note_export`, `remove` | `watcher db retain` | old stories are exported |
| `stats` | `touch` | health | nothing was written for a while |
| `periods` | `keep_periods` | health | a minute has passed, or a condition began or ended |
| `audit.past` | `bind_past` | jobs | rows are older than the audit chain |
| `audit.roots` | `note_published` | jobs | every receiver has the root of a past day |
| `audit.chain` | `bind` | writer | a transaction has changed bound rows |
| `shadow` | `begin`, `record`, `leave` | shadow | a shadow is set; its runs have ended; it is taken away |
| `ended` | `keep_counts` | writer | a transaction has moved tasks into or out of an end state |
| `pauses` | `shift_pending`, `restart_pauses` | writer, `open_ledger` | the wall clock stepped back |

`transitions` alone changes states, for all verbs. Questions are in `queries` (commands, stages), `by_index`
(indices), `known_sources` (contracts), `stats` (health) and `history`, or beside the verbs that need their answers
(`to_confirm`, `to_admit`).
"""
