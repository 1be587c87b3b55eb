-- The ledger: what is owned (wallet), what is known of each credit (lot), every movement (entry),
-- what is promised (hold).
--
-- One row per movement, with a named contra account, cannot be unbalanced; the contra side has no
-- balance row, so there is no row that everybody queues for. Money is BIGINT minor units:
-- 'NaN'::numeric > 0 is true.

create table ledger.wallet (
    bucket     smallint not null check (bucket = kernel.bucket_of(account_id)),
    account_id uuid not null,
    asset      text not null,
    balance    bigint not null default 0,
    held       bigint not null default 0 check (held >= 0),
    floor      bigint not null default 0 check (floor = 0),   -- no verb gives credit yet
    seq        bigint not null default 0,
    primary key (bucket, account_id, asset),
    constraint never_below_floor check (balance - held >= floor)
) with (fillfactor = 60);

-- Credit with a name: bought, promotional with an end, the welcome bonus. Σ remaining = balance,
-- Σ held = held. `open` stands in the partial index instead of `remaining`, which changes with
-- every charge and would cost an index entry each time.
create table ledger.lot (
    bucket      smallint not null check (bucket = kernel.bucket_of(id)),
    id          uuid not null,
    account_id  uuid not null check (bucket = kernel.bucket_of(account_id)),
    asset       text not null,
    kind        text not null check (kind in ('bought', 'promotional', 'welcome')),
    amount      bigint not null check (amount > 0),
    remaining   bigint not null check (remaining between 0 and amount),
    held        bigint not null default 0 check (held between 0 and remaining),
    open        boolean not null default true,
    priority    smallint not null default 0,      -- smaller burns first
    expires_at  timestamptz,
    life        smallint not null default 1,  -- each expiry ends one, a refund starts the next
    cause       text not null,
    at          timestamptz not null,
    primary key (bucket, id),
    constraint open_while_anything_remains check (open = (remaining > 0))
) with (fillfactor = 60);
create index lot_open on ledger.lot (bucket, account_id, asset) where open;
create index lot_expiry on ledger.lot (expires_at) where open and expires_at is not null;

create table ledger.entry (
    bucket        smallint not null check (bucket = kernel.bucket_of(account_id)),
    account_id    uuid not null,
    asset         text not null,
    seq           bigint not null,
    id            uuid not null,
    kind          text not null,
    amount        bigint not null,      -- the signed change of the balance
    held_change   bigint not null default 0,
    balance_after bigint not null,
    held_after    bigint not null,
    contra        text not null,        -- where it came from or went: 'revenue', 'bonus', …
    cause         text not null,        -- 'job:…', 'grant:welcome', 'hold:…'
    reverses      bigint,               -- a refund's charge, by seq
    lots          jsonb not null,       -- lot id → its change
    actor         text,
    reason        text,
    request_id    text,
    at            timestamptz not null,
    primary key (bucket, account_id, asset, seq),
    constraint signs check (case kind
        when 'charge'     then amount < 0 and held_change = 0
        when 'grant'      then amount > 0 and held_change = 0
        when 'refund'     then amount > 0 and held_change = 0 and reverses is not null
        when 'hold'       then amount = 0 and held_change > 0
        when 'release'    then amount = 0 and held_change < 0
        when 'capture'    then amount < 0 and held_change = amount
        when 'expiry'     then amount < 0 and held_change = 0
        when 'adjustment' then amount <> 0 and held_change = 0
        when 'transfer'   then amount <> 0 and held_change = 0
        else false end)
);
-- Once means once: a second bonus, refund, capture or expiry for one cause cannot be written. A
-- charge's key is its row in idempotency.key.
create unique index entry_once on ledger.entry (bucket, account_id, cause, kind)
    where kind <> 'charge';
create unique index entry_refunded_once on ledger.entry (bucket, account_id, asset, reverses)
    where reverses is not null;

create trigger append_only before update or delete on ledger.entry
    for each row execute function kernel.refuse_change();
create trigger never_truncated before truncate on ledger.entry
    for each statement execute function kernel.refuse_change();

-- A promise of credit to work that is done elsewhere. Captured, released or expired by exactly
-- one winner; what it reserves does not expire meanwhile.
create table ledger.hold (
    bucket      smallint not null check (bucket = kernel.bucket_of(id)),
    id          uuid not null,
    account_id  uuid not null check (bucket = kernel.bucket_of(account_id)),
    asset       text not null,
    status      text not null default 'OPEN',
    amount      bigint not null check (amount > 0),
    captured    bigint not null default 0 check (captured between 0 and amount),
    lots        jsonb not null,         -- lot id → reserved amount
    cause       text not null,
    expires_at  timestamptz not null,
    at          timestamptz not null,
    finished_at timestamptz,
    primary key (bucket, id)
);
create index hold_open on ledger.hold (bucket, account_id, asset) where status = 'OPEN';
create index hold_expiry on ledger.hold (expires_at) where status = 'OPEN';

-- What the verbs of a hold answer.
create type ledger.hold_outcome as (
    code text, id uuid, status text, amount bigint, captured bigint, expires_at timestamptz,
    needed bigint, available bigint, replayed boolean);

-- Prices are data, versioned: the newest version whose time has come is the price.
create table ledger.price (
    kind    text not null,
    version int not null,
    amount  bigint not null check (amount >= 0),
    per     bigint not null check (per > 0),      -- for every started `per` units
    unit    text not null,
    since   timestamptz not null,
    primary key (kind, version)
);
