-- Accounts, whole: who was here before, who was linked to whom, and credit that follows its owner.

-- welcome_due: false where this person had his bonus already, in an account since erased or in one
-- that was linked to this. bonus_kept: of a linked account, whether its bonus went along.
alter table accounts.account
    add column welcome_due boolean not null default true,
    add column bonus_kept  boolean,
    add column erased_at   timestamptz;

-- What survives an erasure: that somebody with this identity was here, not who. The hash is keyed,
-- and the key is no business of the application's role: with the table alone nobody can ask it
-- about names.
create table accounts._key (
    only_row boolean primary key default true check (only_row),
    key      bytea not null default sha256(uuid_send(gen_random_uuid())
                                           || uuid_send(gen_random_uuid()))
);
insert into accounts._key default values;

create table accounts.past_person (
    bucket smallint not null,          -- of the identity, by hash
    hash   bytea not null,
    at     timestamptz not null,
    primary key (bucket, hash)
);

-- The wallet of an account that was linked to another: whatever lands here later (a late refund, a
-- released hold) is owed to that one, and is brought there by an effect.
alter table ledger.wallet add column forward_to uuid;

insert into kernel.setting (name, value) values ('hold_ttl_seconds_max', '86400');

-- As before, and: no bonus for somebody who had one, none where none is given.
create or replace function accounts.welcome() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into ledger.wallet (bucket, account_id, asset) values (new.bucket, new.id, 'crystal');
    insert into outbox.stream (bucket, stream) values (new.bucket, new.id);
    if new.welcome_due then
        begin
            perform accounts._pay_welcome_bonus(new.id, kernel.now());
        exception when others then
            raise warning 'welcome bonus of account % not paid: % (%)', new.id, sqlerrm, sqlstate;
        end;
    end if;
    return null;
end $$;
