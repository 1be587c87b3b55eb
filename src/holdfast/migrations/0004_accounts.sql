-- Accounts: who is asking. An identity (how somebody shows who he is) points to an account; an
-- account is born in the bucket of its identity, so a sign-in touches one bucket.

create schema accounts;

create table accounts.account (
    bucket       smallint not null check (bucket = kernel.bucket_of(id)),
    id           uuid not null,
    status       text not null default 'ACTIVE',
    role         text not null default 'user'
                 check (role in ('user', 'operator', 'supervisor', 'admin')),
    name         text check (length(name) between 1 and 200),
    locale       text not null default 'en' check (locale in ('en', 'ru', 'uk')),
    time_zone    text not null default 'UTC',
    quiet_hours  jsonb,
    alias_of     uuid,                 -- LINKED: whose alias this is
    linked_at    timestamptz,
    created_at   timestamptz not null default kernel.now(),
    version      int not null default 1,
    primary key (bucket, id),
    check ((status = 'LINKED') = (alias_of is not null))
);
create index account_aliases on accounts.account (alias_of) where alias_of is not null;

create table accounts.identity (
    bucket      smallint not null,     -- of (kind, subject), by hash
    kind        text not null check (kind in ('clerk', 'device', 'dev')),
    subject     text not null,
    account_id  uuid not null,
    secret_hash bytea,                 -- a device's secret, registered at first use
    linked_at   timestamptz,
    created_at  timestamptz not null,
    primary key (bucket, kind, subject)
);
create index identity_of_account on accounts.identity (account_id);

-- A new account gets its wallet, its stream and its welcome bonus here, so a plain INSERT by any
-- program gets them too. A bonus that fails never aborts the sign-up: it is logged, and
-- ensure_welcome_bonus pays it at the next sign-in. On INSERT only.
create function accounts.welcome() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into ledger.wallet (bucket, account_id, asset) values (new.bucket, new.id, 'crystal');
    insert into outbox.stream (bucket, stream) values (new.bucket, new.id);
    begin
        perform accounts._pay_welcome_bonus(new.id, kernel.now());
    exception when others then
        raise warning 'welcome bonus of account % not paid: % (%)', new.id, sqlerrm, sqlstate;
    end;
    return null;
end $$;

create trigger welcome after insert on accounts.account
    for each row execute function accounts.welcome();
