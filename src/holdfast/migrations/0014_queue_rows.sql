-- A queue is empty most of the time. A planner that has seen it empty believes that reading the
-- whole of it costs nothing, joins it the wrong way round, and keeps the plan when a burst of jobs
-- has come. So it is never empty: one row in each bucket is nobody's job. It counts as leased, for
-- ever, by nobody, so that no claim and no sweep comes across it.

insert into queue.job_ready (bucket, id, account_id, kind, run_at, due_at, token)
select kernel.bucket_of(m.id), m.id, m.id, '', 'infinity', 'infinity', m.id
from (select ('00000000-0000-7000-8000-0000000000' || lpad(to_hex(b), 2, '0'))::uuid as id
      from generate_series(0, 255) b) m;

-- A job's row is written when it is asked for, claimed and finished. With this much room all three
-- versions stay on one page, and no index hears of the moves.
alter table queue.job set (fillfactor = 40);
