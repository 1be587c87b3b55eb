-- Projects: a wizard of stages. What a stage saved, a later stage loads.
--
-- A project lives in its owner's bucket, and so does all that hangs on it: steps, history, members,
-- orders for a voice. A member of another bucket is a row here, never a copy there.

create schema projects;

insert into kernel.setting (name, value)
values ('step_bytes_max', '524288'), ('step_revisions', '50');

-- HOLDFAST_VOICE_PRICE arrives as a setting at migrate; a changed one becomes the next version of
-- the price. Jobs already paid keep what they paid.
create function projects.price_from_setting() returns trigger
language plpgsql as $$
begin
    insert into ledger.price (kind, version, amount, per, unit, since)
    select 'voice', coalesce(max(p.version), 0) + 1, new.value::bigint, 100, 'words', kernel.now()
    from ledger.price p where p.kind = 'voice';
    return null;
end $$;

create trigger voice_price_created after insert on kernel.setting
    for each row when (new.name = 'voice_price') execute function projects.price_from_setting();
create trigger voice_price_changed after update on kernel.setting
    for each row when (new.name = 'voice_price' and new.value is distinct from old.value)
    execute function projects.price_from_setting();

insert into kernel.setting (name, value) values ('voice_price', '5');

-- Templates are data, the same for everybody: stages, what `complete` asks of each, and which
-- values of earlier stages a stage is made from.
create table projects.template (
    template text primary key check (template ~ '^[a-z0-9-]{1,40}$')
);

create table projects.stage (
    template text not null references projects.template,
    number   smallint not null check (number between 1 and 100),
    name     text not null,
    required boolean not null default true,
    schema   jsonb not null,            -- JSON Schema of a complete stage's data
    primary key (template, number)
);

create table projects.input (
    template    text not null,
    number      smallint not null,      -- the stage that uses it
    from_number smallint not null,      -- the stage that saves it
    path        text[] not null,        -- where in that stage's data
    copied_to   text[],                 -- where the using stage keeps a copy of its own, if it does
    primary key (template, number, from_number, path),
    foreign key (template, number) references projects.stage,
    foreign key (template, from_number) references projects.stage,
    check (from_number < number)
);

create table projects.project (
    bucket     smallint not null check (bucket = kernel.bucket_of(id)),
    id         uuid not null,
    account_id uuid not null check (bucket = kernel.bucket_of(account_id)),
    template   text not null references projects.template,
    title      text not null check (length(title) between 1 and 200),
    created_at timestamptz not null,
    primary key (bucket, id)
);
create index project_of_account on projects.project (account_id, id);

create table projects.member (
    bucket     smallint not null check (bucket = kernel.bucket_of(project_id)),
    project_id uuid not null,
    account_id uuid not null,
    added_by   uuid not null,
    at         timestamptz not null,
    primary key (bucket, project_id, account_id),
    foreign key (bucket, project_id) references projects.project on delete cascade
);
create index member_of on projects.member (account_id, project_id);

-- A stage that was saved at least once. `version` counts what people did; `stale` is worked out
-- anew with every save of an earlier stage, and does not count.
create table projects.step (
    bucket       smallint not null check (bucket = kernel.bucket_of(id)),
    id           uuid not null,
    project_id   uuid not null check (bucket = kernel.bucket_of(project_id)),
    number       smallint not null,
    status       text not null default 'EMPTY',
    data         jsonb not null default '{}' check (jsonb_typeof(data) = 'object'),
    completed_at timestamptz,
    skip_reason  text,
    stale        boolean not null default false,
    version      int not null default 0,
    created_at   timestamptz not null,
    updated_at   timestamptz not null,
    primary key (bucket, id),
    unique (bucket, project_id, number),
    foreign key (bucket, project_id) references projects.project on delete cascade,
    constraint completed_has_its_time check ((status = 'COMPLETED') = (completed_at is not null)),
    constraint skipped_has_its_reason check (status <> 'SKIPPED' or skip_reason <> '')
) with (fillfactor = 80);

-- What a step was made from: the value of each declared input as it was then. `kept` is the digest
-- of a newer value that a person has seen and decided not to follow.
create table projects.basis (
    bucket      smallint not null check (bucket = kernel.bucket_of(project_id)),
    project_id  uuid not null,
    number      smallint not null,
    from_number smallint not null,
    path        text[] not null,
    digest      bytea not null,
    value       jsonb,                  -- null: the earlier stage had none
    kept        bytea,
    primary key (bucket, project_id, number, from_number, path),
    foreign key (bucket, project_id) references projects.project on delete cascade
);

-- History, bounded per step (HOLDFAST_STEP_REVISIONS). `tab`: an autosave, the first to be thinned.
create table projects.revision (
    bucket     smallint not null check (bucket = kernel.bucket_of(project_id)),
    project_id uuid not null,
    number     smallint not null,
    version    int not null,
    data       jsonb not null,
    by         uuid not null,
    tab        text,
    request_id text,
    at         timestamptz not null,
    primary key (bucket, project_id, number, version),
    foreign key (bucket, project_id) references projects.project on delete cascade
);

-- The last autosave of each browser tab: an older one that arrives later changes nothing.
create table projects.tab (
    bucket     smallint not null check (bucket = kernel.bucket_of(project_id)),
    project_id uuid not null,
    number     smallint not null,
    account_id uuid not null,
    tab        text not null check (length(tab) between 1 and 64),
    seq        bigint not null,
    at         timestamptz not null,
    primary key (bucket, project_id, number, account_id, tab),
    foreign key (bucket, project_id) references projects.project on delete cascade
);

-- What a voice job speaks: the script as it was when it was paid. The job itself holds ids only.
create table projects.voicing (
    bucket     smallint not null check (bucket = kernel.bucket_of(project_id)),
    project_id uuid not null,
    number     smallint not null,
    job_id     uuid not null,
    account_id uuid not null,           -- who ordered and paid
    voice      text not null,
    scenes     jsonb not null,          -- an array of texts
    at         timestamptz not null,
    primary key (bucket, project_id, number, job_id),
    foreign key (bucket, project_id) references projects.project on delete cascade
);
