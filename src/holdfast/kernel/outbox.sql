-- The outbox: effects leave after the commit, all of them leave, in order per stream.
--
-- The effect row is written in the business transaction and takes its seq from the stream's row,
-- locked there. A relay leases whole streams: while it holds one, nobody else sends from it, so
-- order holds although many relays run. Delivery is at least once, with a stable id. A relay that
-- lost its lease (paused, cut off) settles nothing: its token is no longer current.

select transitions.declare('effect', 'outbox.effect', $$
    READY, DELIVERED, DEAD, SKIPPED, CANCELLED
    deliver: READY → DELIVERED (relay)
    bury:    READY → DEAD (relay)
    skip:    READY | DEAD → SKIPPED (admin, relay)
    cancel:  READY → CANCELLED (relay)
    redrive: DEAD → READY (admin)
$$);

-- Appends effects to locked streams, in array order within each.
create function outbox._append(
    streams uuid[], ids uuid[], topics text[], payloads jsonb[], request_ids text[],
    at timestamptz, valid_while jsonb default null)
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    insert into outbox.effect (bucket, stream, seq, id, topic, payload, valid_while, request_id, at)
    select s.bucket, s.stream,
           s.next_seq - 1 + row_number() over (partition by x.stream order by x.ord),
           x.id, x.topic, x.payload, valid_while, x.request_id, at
    from unnest(streams, ids, topics, payloads, request_ids) with ordinality
         as x(stream, id, topic, payload, request_id, ord)
    join outbox.stream s on s.bucket = kernel.bucket_of(x.stream) and s.stream = x.stream;
    update outbox.stream s
    set next_seq = s.next_seq + c.n,
        ready_at = case when not s.blocked then coalesce(s.ready_at, at) end
    from (select u, count(*) as n from unnest(streams) u group by u) c
    where s.bucket = kernel.bucket_of(c.u) and s.stream = c.u;
end $$;

-- Leases streams that have something to send and returns their next effects, in order. A lease is
-- `ready_at` in the future plus a new token.
create function outbox.lease(most_streams int, most_effects int, lease_seconds double precision)
returns table (stream uuid, token uuid, attempts int, seq bigint, id uuid, topic text,
               payload jsonb, valid boolean, request_id text, at timestamptz)
language plpgsql as $$
#variable_conflict use_column
declare
    moment timestamptz := kernel.now();
begin
    perform outbox._ripen(moment, most_effects);
    return query
    with due as materialized (
        select s.bucket, s.stream from outbox.stream s
        where s.ready_at <= moment
        order by s.ready_at
        limit most_streams
        for update skip locked),
    leased as (
        update outbox.stream s
        set token = gen_random_uuid(), ready_at = moment + make_interval(secs => lease_seconds)
        from due d where s.bucket = d.bucket and s.stream = d.stream
        returning s.bucket, s.stream, s.token, s.attempts, s.done_seq)
    select l.stream, l.token, l.attempts, e.seq, e.id, e.topic, e.payload,
           outbox._still_valid(e.valid_while), e.request_id, e.at
    from leased l
    cross join lateral (
        select * from outbox.effect e
        where e.bucket = l.bucket and e.stream = l.stream and e.seq > l.done_seq
        order by e.seq
        limit most_effects) e
    order by l.stream, e.seq;
end $$;

-- Timed effects that are due take their seq now.
create function outbox._ripen(at timestamptz, at_most int)
returns int language plpgsql as $$
#variable_conflict use_variable
declare
    t    outbox.timer;
    done int := 0;
begin
    for t in
        delete from outbox.timer x using (
            select y.bucket, y.stream, y.key from outbox.timer y
            where y.due_at <= at order by y.due_at limit at_most for update skip locked) d
        where x.bucket = d.bucket and x.stream = d.stream and x.key = d.key
        returning x.*
    loop
        perform 1 from outbox.stream s
        where s.bucket = t.bucket and s.stream = t.stream for update;
        perform outbox._append(array[t.stream], array[t.id], array[t.topic], array[t.payload],
                               array[null::text], at, t.valid_while);
        done := done + 1;
    end loop;
    return done;
end $$;

-- Is what the effect speaks of still so? valid_while = {entity, id, statuses}.
create function outbox._still_valid(valid_while jsonb)
returns boolean language plpgsql as $$
declare
    answer boolean;
    entity text;
begin
    if valid_while is null then
        return true;
    end if;
    select m.entity into strict entity from transitions.machine m
    where m.machine = valid_while ->> 'entity';
    execute format('select exists (select from %s where bucket = kernel.bucket_of($1) and id = $1
                    and status = any ($2))', entity)
    into answer
    using (valid_while ->> 'id')::uuid,
          array(select jsonb_array_elements_text(valid_while -> 'statuses'));
    return answer;
end $$;

-- What became of the effects of leased streams, in the order sent. Outcomes: delivered, cancelled
-- (no longer valid), failed (try again after `retry_seconds`), dead (blocks the stream until an
-- admin redrives or skips it), skipped (dead, but the topic does not block). Members whose token
-- is no longer current change nothing and say lease_lost.
create function outbox.settle(
    streams uuid[], tokens uuid[], upto bigint[], outcomes text[], errors text[],
    retry_seconds double precision[])
returns table (ord int, code text)
language plpgsql as $$
#variable_conflict use_column
declare
    moment timestamptz := kernel.now();
    m      record;
    s      outbox.stream;
begin
    for m in
        select u.ord::int, u.stream, u.token, u.seq, u.outcome, u.error, u.retry
        from unnest(streams, tokens, upto, outcomes, errors, retry_seconds) with ordinality
             as u(stream, token, seq, outcome, error, retry, ord)
        order by u.stream, u.seq
    loop
        select * into s from outbox.stream x
        where x.bucket = kernel.bucket_of(m.stream) and x.stream = m.stream for update;
        ord := m.ord;
        if s.token is distinct from m.token then
            code := 'lease_lost';
            return next;
            continue;
        end if;
        perform outbox._settle_one(s, m.seq, m.outcome, m.error, m.retry, moment);
        code := 'ok';
        return next;
    end loop;
end $$;

create function outbox._settle_one(
    s outbox.stream, upto bigint, outcome text, problem text, retry double precision,
    at timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    to_status text := case outcome when 'delivered' then 'DELIVERED' when 'cancelled' then
                      'CANCELLED' when 'skipped' then 'SKIPPED' when 'dead' then 'DEAD' end;
begin
    if outcome = 'failed' then
        update outbox.effect e set attempts = e.attempts + 1, error = problem
        where e.bucket = s.bucket and e.stream = s.stream and e.seq = upto;
        update outbox.stream x
        set token = null, attempts = x.attempts + 1, ready_at = at + make_interval(secs => retry)
        where x.bucket = s.bucket and x.stream = s.stream;
        return;
    end if;
    update outbox.effect e
    set status = to_status, finished_at = at, attempts = e.attempts + 1, error = problem
    where e.bucket = s.bucket and e.stream = s.stream and e.status = 'READY'
      and e.seq > s.done_seq and e.seq <= upto;
    -- A dead letter stays the next one in its stream: nothing passes it.
    update outbox.stream x
    set done_seq = case outcome when 'dead' then upto - 1 else upto end,
        attempts = 0, blocked = outcome = 'dead',
        token = case when outcome = 'dead' then null else x.token end,
        ready_at = case when outcome = 'dead' or upto + 1 >= x.next_seq then null
                        else x.ready_at end
    where x.bucket = s.bucket and x.stream = s.stream;
end $$;

-- The relay is done with these streams for now: what is left in them is due at once.
create function outbox.release(streams uuid[], tokens uuid[])
returns int language sql as $$
    with mine as (
        update outbox.stream s
        set token = null,
            ready_at = case when s.done_seq + 1 < s.next_seq then kernel.now() end
        from (select u.stream, u.token from unnest(streams, tokens) as u(stream, token)
              order by u.stream) x
        where s.bucket = kernel.bucket_of(x.stream) and s.stream = x.stream
          and s.token = x.token
        returning 1)
    select count(*)::int from mine
$$;

-- An admin's decision about a dead letter: send it again (redrive), or pass it by (skip).
create function outbox.decide(effect_id uuid, action text, actor text, request_id text)
returns text language plpgsql as $$
#variable_conflict use_variable
declare
    e      outbox.effect;
    moment timestamptz;
begin
    select * into e from outbox.effect x
    where x.bucket = kernel.bucket_of(effect_id) and x.id = effect_id and x.status = 'DEAD';
    if e.id is null then
        return 'not_found';
    end if;
    perform 1 from outbox.stream s where s.bucket = e.bucket and s.stream = e.stream for update;
    moment := kernel.now();
    update outbox.effect x
    set status = case action when 'redrive' then 'READY' else 'SKIPPED' end, error = null,
        finished_at = case action when 'redrive' then null else moment end
    where x.bucket = e.bucket and x.stream = e.stream and x.seq = e.seq and x.status = 'DEAD';
    if not found then
        return 'not_found';
    end if;
    update outbox.stream s
    set done_seq = case action when 'redrive' then s.done_seq else e.seq end, attempts = 0,
        blocked = false, ready_at = moment
    where s.bucket = e.bucket and s.stream = e.stream;
    perform audit._record('effect', 'effects.' || action, array[kernel.new_id(e.bucket)],
        array[e.id], array['DEAD'],
        array[case action when 'redrive' then 'READY' else 'SKIPPED' end], array[actor],
        array[null::text], array[request_id], moment);
    return 'ok';
end $$;

-- Locks streams in id order; returns who was locked.
create function outbox._lock(streams uuid[], wait boolean)
returns uuid[] language plpgsql as $$
#variable_conflict use_variable
declare
    locked uuid[];
begin
    if wait then
        select array_agg(t.stream) into locked from (
            select s.stream from (select distinct u from unnest(streams) u) x
            join outbox.stream s on s.bucket = kernel.bucket_of(x.u) and s.stream = x.u
            order by s.stream for update of s) t;
    else
        select array_agg(t.stream) into locked from (
            select s.stream from (select distinct u from unnest(streams) u) x
            join outbox.stream s on s.bucket = kernel.bucket_of(x.u) and s.stream = x.u
            order by s.stream for update of s skip locked) t;
    end if;
    return coalesce(locked, '{}');
end $$;
