-- Courses. Content is published in versions that never change; an enrolment is pinned to one.
--
-- What a person has done is rows: an enrolment, its days, its steps. The enrolment's row is the
-- lock; counters in it and in the days make the roll-up a matter of adding one, however many steps
-- there are. The checks below state the promise itself: a day is COMPLETED exactly when all its
-- required steps are finished, a course exactly when all its days are.

create schema courses;

create table courses.course (
    slug    text primary key check (slug ~ '^[a-z0-9-]{1,60}$'),
    version int not null check (version >= 0),     -- the one that new enrolments get
    at      timestamptz not null
);

create table courses.version (
    slug         text not null references courses.course,
    version      int not null check (version > 0),
    title        jsonb not null,            -- language → text, as every text below
    about        jsonb not null,
    flow         text not null check (flow in ('linear', 'free')),
    remind_at    time,                      -- on the person's clock; null: never
    days         int not null check (days > 0),
    steps        int not null check (steps > 0),
    digest       bytea not null,
    published_by text not null,
    published_at timestamptz not null,
    primary key (slug, version)
);

create table courses.plan_day (
    slug    text not null,
    version int not null,
    number  smallint not null check (number > 0),
    key     text not null,                  -- what stays the same over versions
    title   jsonb not null,
    primary key (slug, version, number),
    unique (slug, version, key),
    foreign key (slug, version) references courses.version
);

create table courses.plan_step (
    slug     text not null,
    version  int not null,
    key      text not null,
    day      smallint not null,
    number   smallint not null check (number > 0),
    title    jsonb not null,
    body     jsonb not null,
    required boolean not null,
    needs    text[] not null,               -- keys of steps that come first
    need_any boolean not null,              -- one of them is enough
    primary key (slug, version, key),
    unique (slug, version, day, number),
    foreign key (slug, version, day) references courses.plan_day (slug, version, number)
);

create trigger published_once before update or delete on courses.version
    for each row execute function kernel.refuse_change();
create trigger published_once before update or delete on courses.plan_day
    for each row execute function kernel.refuse_change();
create trigger published_once before update or delete on courses.plan_step
    for each row execute function kernel.refuse_change();

create table courses.enrolment (
    bucket       smallint not null check (bucket = kernel.bucket_of(id)),
    id           uuid not null,
    account_id   uuid not null check (bucket = kernel.bucket_of(account_id)),
    slug         text not null,
    version      int not null,
    attempt      smallint not null default 1,
    status       text not null default 'NOT_STARTED',
    required     int not null,              -- steps that count, and how many of them are finished
    done         int not null default 0,
    days         int not null,
    days_done    int not null default 0,
    next_day     smallint,                  -- the first required step that is open
    next_number  smallint,
    reminders    boolean not null default true,
    streak       int not null default 0,
    last_on      date,                      -- the latest local date with a completion,
    last_at      timestamptz,               -- when that was, and on whose clock
    last_zone    text,
    started_at   timestamptz,
    completed_at timestamptz,
    created_at   timestamptz not null,
    revision     int not null default 1,
    primary key (bucket, id),
    constraint done_of_required check (done between 0 and required),
    constraint days_done_of_days check (days > 0 and days_done between 0 and days),
    constraint completed_with_its_days check ((status = 'COMPLETED') = (days_done = days)),
    constraint completed_at_its_time check ((status = 'COMPLETED') = (completed_at is not null)),
    constraint next_while_any_is_open check ((next_day is null) = (done = required)
                                             and (next_day is null) = (next_number is null))
) with (fillfactor = 60);
create unique index enrolment_once on courses.enrolment (bucket, account_id, slug);
create index enrolment_pinned on courses.enrolment (slug, version) where status <> 'COMPLETED';

create table courses.day (
    bucket             smallint not null check (bucket = kernel.bucket_of(id)),
    id                 uuid not null,
    enrolment_id       uuid not null check (bucket = kernel.bucket_of(enrolment_id)),
    attempt            smallint not null,
    number             smallint not null,
    key                text not null,
    status             text not null default 'NOT_STARTED',
    steps              int not null,        -- all of them, and how many are finished
    finished           int not null default 0,
    required           int not null,        -- those that count, and how many of them are
    done               int not null default 0,
    current_step_index int not null default 0,
    retired            boolean not null default false,     -- no longer part of the course
    started_at         timestamptz,
    completed_at       timestamptz,
    primary key (bucket, id),
    constraint finished_of_steps check (finished between 0 and steps),
    constraint done_of_required check (done between 0 and required),
    constraint completed_with_its_steps check (
        retired or (status = 'COMPLETED') = (done = required)),
    constraint completed_at_its_time check ((status = 'COMPLETED') = (completed_at is not null)),
    constraint index_within check (current_step_index between 0 and steps)
) with (fillfactor = 60);
create unique index day_once on courses.day (bucket, enrolment_id, attempt, key);

create table courses.step (
    bucket       smallint not null check (bucket = kernel.bucket_of(id)),
    id           uuid not null,
    enrolment_id uuid not null check (bucket = kernel.bucket_of(enrolment_id)),
    attempt      smallint not null,
    day_id       uuid not null,
    day          smallint not null,
    number       smallint not null,
    key          text not null,
    status       text not null default 'NOT_STARTED',
    required     boolean not null,
    has_needs    boolean not null,
    retired      boolean not null default false,
    started_at   timestamptz,
    completed_at timestamptz,
    completed_on date,                      -- the date on the person's clock
    skip_reason  text,                      -- personal: emptied when the person is erased
    actor        text,                      -- who finished it
    primary key (bucket, id),
    constraint completed_on_a_date check ((status = 'COMPLETED') = (completed_on is not null)
                                          and (completed_on is null) = (completed_at is null)),
    constraint skipped_with_a_reason check ((status = 'SKIPPED') = (skip_reason is not null))
) with (fillfactor = 70);
create unique index step_once on courses.step (bucket, enrolment_id, attempt, key);
create index step_open on courses.step (bucket, enrolment_id, attempt, day, number)
    where status in ('NOT_STARTED', 'IN_PROGRESS') and not retired;

-- Each local date with a completion, and how many in a row that made.
create table courses.activity (
    bucket       smallint not null check (bucket = kernel.bucket_of(enrolment_id)),
    enrolment_id uuid not null,
    on_date      date not null,
    at           timestamptz not null,
    zone         text not null,
    streak       int not null check (streak > 0),
    primary key (bucket, enrolment_id, on_date)
);

-- What an attempt was when it was begun anew; its days and steps stay where they are.
create table courses.past_attempt (
    bucket       smallint not null check (bucket = kernel.bucket_of(enrolment_id)),
    enrolment_id uuid not null,
    attempt      smallint not null,
    version      int not null,
    status       text not null,
    required     int not null,
    done         int not null,
    started_at   timestamptz,
    completed_at timestamptz,
    ended_at     timestamptz not null,
    primary key (bucket, enrolment_id, attempt)
);

-- Why somebody skipped a step is his own words.
create function courses.forget_person() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    update courses.step s set skip_reason = '', actor = null
    from courses.enrolment e
    where e.bucket = new.bucket and e.account_id = new.id
      and s.bucket = e.bucket and s.enrolment_id = e.id and s.status = 'SKIPPED';
    return null;
end $$;

create trigger forget_person after update of status on accounts.account
    for each row when (new.status = 'ERASED' and old.status <> 'ERASED')
    execute function courses.forget_person();

-- The planner must know that a bucket alone finds next to nothing. Of a table that was never
-- analysed it believes that any equality leaves a row, takes an index that begins with the bucket
-- for as good as the primary key, and reads a whole bucket for one step. So it is told, and told
-- before there are rows: these are analysed and gone.
do $$
declare
    made uuid[] := array(select overlay(gen_random_uuid()::text placing '00' from 35)::uuid
                         from generate_series(1, 200));
begin
    alter table courses.enrolment alter column bucket set (n_distinct = 1);
    alter table courses.day alter column bucket set (n_distinct = 1);
    alter table courses.step alter column bucket set (n_distinct = 1);
    insert into courses.enrolment (bucket, id, account_id, slug, version, required, days, next_day,
                                   next_number, created_at)
    select 0, u, u, '', 0, 1, 1, 1, 1, 'epoch' from unnest(made) u;
    insert into courses.day (bucket, id, enrolment_id, attempt, number, key, steps, required)
    select 0, u, u, 1, 1, '', 1, 1 from unnest(made) u;
    insert into courses.step (bucket, id, enrolment_id, attempt, day_id, day, number, key, required,
                              has_needs)
    select 0, u, u, 1, u, 1, 1, '', true, false from unnest(made) u;
    analyze courses.enrolment, courses.day, courses.step;
    delete from courses.enrolment;
    delete from courses.day;
    delete from courses.step;
end $$;
