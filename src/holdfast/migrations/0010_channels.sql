-- Channels: where effects go after their own stream.
--
-- A person's effects are settled in the person's stream, and in the same transaction copied to the
-- streams of those who want them: each browser that subscribed, each webhook. So a receiver that is
-- down holds up nobody but itself, and nobody is sent a second time what he has because somebody
-- else was not there. A copy keeps the effect's id: that is what receivers recognise it by.

alter table outbox.stream
    add column channel text not null default 'log' check (channel in ('log', 'push', 'webhook'));
alter table outbox.effect add column source uuid;   -- of a copy: the effect it is a copy of
alter table outbox.timer
    -- a time on the person's own clock; due_at follows when the time zone changes
    add column local_at timestamp;

-- Who reads what a stream sends: language, time zone, quiet hours. A copy of what the account says,
-- kept by a trigger, because the kernel and the systems meet in the account's id alone. `person` is
-- whoever reads it now: an alias's effects reach the person it was linked to.
create table outbox.reader (
    bucket      smallint not null check (bucket = kernel.bucket_of(account_id)),
    account_id  uuid not null,
    person      uuid not null,
    locale      text not null default 'en',
    time_zone   text not null default 'UTC',
    quiet_from  time,
    quiet_until time,
    primary key (bucket, account_id),
    check ((quiet_from is null) = (quiet_until is null))
);
create index reader_person on outbox.reader (person);

-- A browser that shows notifications. `id` is also its stream.
create table outbox.subscription (
    bucket     smallint not null check (bucket = kernel.bucket_of(id)),
    id         uuid not null,
    account_id uuid not null check (bucket = kernel.bucket_of(account_id)),
    endpoint   text not null,
    p256dh     text not null,
    auth       text not null,
    created_at timestamptz not null,
    primary key (bucket, id)
);
create unique index subscription_once
    on outbox.subscription (bucket, account_id, (sha256(endpoint::bytea)));

-- Somebody's server. `id` is also its stream; the secret signs, so it is kept as it is.
create table outbox.webhook (
    bucket     smallint not null check (bucket = kernel.bucket_of(id)),
    id         uuid not null,
    account_id uuid not null check (bucket = kernel.bucket_of(account_id)),  -- the admin
    url        text not null check (length(url) <= 2000),
    topics     text[] not null check (cardinality(topics) between 1 and 100),
    secret     text not null,
    created_at timestamptz not null,
    primary key (bucket, id)
);

-- Which topics people are told of, and how. The texts stand in the catalogues as
-- notice.<topic>.title and .body, in every language.
create table outbox.kind (
    topic       text primary key,
    quiet       boolean not null,           -- waits for the end of quiet hours
    ttl_seconds int not null check (ttl_seconds between 0 and 2419200),
    urgency     text not null check (urgency in ('very-low', 'low', 'normal', 'high')),
    blocks      boolean     -- whether a dead one blocks its stream; null: all do but browsers
);

-- Kept in step with the account. The stream is locked before its timers, as everywhere.
create function outbox.follow_account() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    zone   text := case new.time_zone when 'UTC' then 'UTC'
                   else outbox._zone_or_utc(new.time_zone) end;
    before text;
begin
    select r.time_zone into before from outbox.reader r
    where r.bucket = new.bucket and r.account_id = new.id;
    insert into outbox.reader as r (bucket, account_id, person, locale, time_zone, quiet_from,
                                    quiet_until)
    values (new.bucket, new.id, coalesce(new.alias_of, new.id), new.locale, zone,
            outbox._quiet_time(new.quiet_hours, 'from'),
            outbox._quiet_time(new.quiet_hours, 'until'))
    on conflict (bucket, account_id) do update
    set person = excluded.person, locale = excluded.locale, time_zone = excluded.time_zone,
        quiet_from = excluded.quiet_from, quiet_until = excluded.quiet_until;
    if before <> zone then
        perform from outbox.stream s where s.bucket = new.bucket and s.stream = new.id for update;
        update outbox.timer t set due_at = t.local_at at time zone zone
        where t.bucket = new.bucket and t.stream = new.id and t.local_at is not null;
    end if;
    if new.status = 'ERASED' then
        perform outbox._forget_person(new.id);
    end if;
    return null;
end $$;

create trigger follow_account
    after insert or update of status, locale, time_zone, quiet_hours, alias_of on accounts.account
    for each row execute function outbox.follow_account();

insert into outbox.reader (bucket, account_id, person, locale, time_zone)
select a.bucket, a.id, coalesce(a.alias_of, a.id), a.locale,
       case when exists (select from pg_catalog.pg_timezone_names z where z.name = a.time_zone)
            then a.time_zone else 'UTC' end
from accounts.account a;
