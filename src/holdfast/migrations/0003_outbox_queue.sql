-- The outbox: what leaves, and in which order.
--
-- A stream is usually a person. Its row hands out the seq numbers under its lock, and the relay
-- leases the *stream*, not the effect: order holds with SKIP LOCKED, parallelism is across streams.
-- `ready_at` is when the relay should look at the stream next (null: nothing to do); a lease is
-- the same column in the future.
create table outbox.stream (
    bucket   smallint not null check (bucket = kernel.bucket_of(stream)),
    stream   uuid not null,
    next_seq bigint not null default 1,
    done_seq bigint not null default 0 check (done_seq < next_seq),
    ready_at timestamptz,
    token    uuid,
    attempts int not null default 0,
    blocked  boolean not null default false,   -- by a dead letter, until an admin decides
    primary key (bucket, stream)
) with (fillfactor = 60);
create index stream_ready on outbox.stream (ready_at) where ready_at is not null;

create table outbox.effect (
    bucket       smallint not null check (bucket = kernel.bucket_of(stream)),
    stream       uuid not null,
    seq          bigint not null,
    id           uuid not null,
    status       text not null default 'READY',
    topic        text not null,
    payload      jsonb not null,        -- ids, not personal data
    valid_while  jsonb,                 -- {entity, id, statuses}: asked again at send
    request_id   text,
    attempts     int not null default 0,
    error        text,
    at           timestamptz not null,
    finished_at  timestamptz,
    primary key (bucket, stream, seq),
    check (bucket = kernel.bucket_of(id))
) with (fillfactor = 80);
create index effect_dead on outbox.effect (bucket, id) where status = 'DEAD';

-- Timed effects take their seq when they are due.
create table outbox.timer (
    bucket      smallint not null check (bucket = kernel.bucket_of(stream)),
    stream      uuid not null,
    key         text not null,          -- what it is about; it is cancelled by this
    id          uuid not null,
    topic       text not null,
    payload     jsonb not null,
    valid_while jsonb,
    due_at      timestamptz not null,
    at          timestamptz not null,
    primary key (bucket, stream, key)
);
create index timer_due on outbox.timer (due_at);

-- The queue. `job` is what stays (identity, owner, status, result; guarded); `job_ready` is what is
-- hot (order, lease, token; deleted at finish, so it stays small whatever the history).
create table queue.kind (
    kind                   text primary key,
    attempts               smallint not null check (attempts between 1 and 100),
    backoff_seconds        double precision not null check (backoff_seconds >= 0),
    lease_seconds          double precision not null check (lease_seconds > 0),
    deadline_seconds       double precision not null check (deadline_seconds > 0),
    queue_deadline_seconds double precision not null check (queue_deadline_seconds > 0),
    paused_until           timestamptz,
    pause_reason           text
);

create table queue.job (
    bucket           smallint not null check (bucket = kernel.bucket_of(id)),
    id               uuid not null,
    account_id       uuid not null check (bucket = kernel.bucket_of(account_id)),
    kind             text not null,
    status           text not null default 'queued',
    payload          jsonb not null,
    asset            text not null,
    price            bigint not null check (price >= 0),
    charge_seq       bigint,            -- the entry that paid for it
    hold_id          uuid,              -- or the hold that will
    refund_seq       bigint,
    captured         bigint not null default 0,
    attempt          smallint not null default 0,
    attempts         smallint not null,
    token            uuid,              -- of the attempt that finished it
    result           jsonb,
    error_code       text,
    error_detail     text,
    retry_of         uuid,
    request_id       text,
    created_at       timestamptz not null,
    started_at       timestamptz,
    finished_at      timestamptz,
    version          int not null default 1,
    primary key (bucket, id),
    constraint a_refund_has_its_charge check (refund_seq is null or charge_seq is not null),
    constraint delivered_is_not_refunded check (status <> 'completed' or refund_seq is null)
) with (fillfactor = 60);
-- Not led by the bucket: a table never analysed would be searched by it for (bucket, id) too.
create index job_of_account on queue.job (account_id, id);

create table queue.job_ready (
    bucket      smallint not null check (bucket = kernel.bucket_of(id)),
    id          uuid not null,
    account_id  uuid not null,
    kind        text not null,
    priority    smallint not null default 0,   -- smaller goes first
    run_at      timestamptz not null,
    attempt     smallint not null default 0,
    token       uuid,                          -- null: waiting; else the fencing token of the lease
    worker      text,
    due_at      timestamptz not null,          -- when the sweeper must look
    deadline_at timestamptz,                   -- of the whole job, from its first claim
    progress    jsonb,
    metered     boolean not null default false, -- priced by use: it holds credit to settle
    primary key (bucket, id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
create index job_ready_claim on queue.job_ready (kind, priority, run_at, id) where token is null;
create index job_ready_due on queue.job_ready (due_at);

-- The growing text of a job under way. Fenced by the token, dropped at finish.
create table queue.job_chunk (
    bucket  smallint not null check (bucket = kernel.bucket_of(job_id)),
    job_id  uuid not null,
    attempt smallint not null,
    n       int not null,
    text    text not null,
    primary key (bucket, job_id, attempt, n)
);

-- What a fenced worker delivered too late, kept unpaid and never shown as the result; and files.
create table queue.artifact (
    bucket     smallint not null check (bucket = kernel.bucket_of(job_id)),
    job_id     uuid not null,
    n          int not null,
    attempt    smallint,
    name       text not null,
    media_type text not null,
    late       boolean not null default false,
    seconds    double precision,
    data       bytea not null check (octet_length(data) <= 8388608),
    at         timestamptz not null,
    primary key (bucket, job_id, n)
);

-- Workers with nothing to do. NOTIFY takes a global lock at commit, so it is sent only to somebody
-- who said that he waits; polling is the truth.
create table queue.idle (
    worker text primary key,
    at     timestamptz not null
);
