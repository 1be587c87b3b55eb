-- The kernel's busy tables are analysed when they have really changed, not at every turn.
--
-- Their verbs carry their plans' settings (kernel.plan_by_index) and need no statistics; what does
-- (lists, verify, a person with psql) asks tables whose shape changes slowly. By the defaults a
-- tenth of new rows is a reason, so tables that grow fast are sampled again and again: measured on
-- two cores, a tenth of the whole machine during a drain.

alter table audit.event set (
    autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0.3);
alter table idempotency.key set (
    autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0.3);
alter table ledger.entry set (
    autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0.3);
alter table ledger.hold set (
    autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0.3);
alter table ledger.lot set (
    autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0.3);
alter table ledger.wallet set (
    autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0.3);
alter table outbox.effect set (
    autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0.3);
alter table outbox.stream set (
    autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0.3);
alter table queue.job set (
    autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0.3);
alter table queue.job_chunk set (
    autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0.3);
alter table queue.job_ready set (
    autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0.3);
