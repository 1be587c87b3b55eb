-- The outbox: effects leave after the commit, all of them leave, in order per stream.
--
-- The effect row is written in the business transaction and takes the seq after the stream's last,
-- under the lock of the stream's row, which itself changes only when a relay has to look. A relay
-- leases whole streams: while it holds one, nobody else sends from it, so order holds although many
-- relays run. Delivery is at least once, with a stable id. A relay that lost its lease (paused, cut
-- off) settles nothing: its token is no longer current.
--
-- Lock order, everywhere: stream (in id order), its timers, its effects.

select transitions.declare('effect', 'outbox.effect', $$
    READY, DELIVERED, DEAD, SKIPPED, CANCELLED
    deliver: READY → DELIVERED (relay)
    bury:    READY → DEAD (relay)
    skip:    READY | DEAD → SKIPPED (admin, relay)
    cancel:  READY → CANCELLED (relay, admin)
    redrive: DEAD → READY (admin)
$$);

-- The streams of new accounts, each read by its person until the account says otherwise.
create function outbox._open(accounts uuid[]) returns void language plpgsql as $$
begin
    insert into outbox.stream (bucket, stream)
    select kernel.bucket_of(u), u from unnest(accounts) u;
    insert into outbox.reader (bucket, account_id, person)
    select kernel.bucket_of(u), u, u from unnest(accounts) u;
end $$;

-- The seq of the last effect of a stream, sent or not. Says the truth to whoever locked its row.
-- Whatever may be forgotten of a stream one day, its last effect may not.
create function outbox._last(s outbox.stream) returns bigint
language plpgsql stable as $$
begin
    return coalesce((select e.seq from outbox.effect e
                     where e.bucket = s.bucket and e.stream = s.stream
                     order by e.seq desc limit 1), 0);
end $$;

-- Appends effects to locked streams, in array order within each; wakes those that had nothing to
-- send. Whoever locked them may have seen which those are (`idle`), and that all are there; else it
-- is asked here. A stream that is not there is a defect of the caller and undoes his transaction:
-- an effect is never lost in silence.
create function outbox._append(
    streams uuid[], ids uuid[], topics text[], payloads jsonb[], request_ids text[],
    at timestamptz, valid_whiles jsonb[] default null, sources uuid[] default null,
    idle uuid[] default null)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    there uuid[];
    nths  bigint[];     -- of each effect among those of its stream; null: each has one
begin
    if idle is null then
        select array_agg(s.stream), coalesce(array_agg(s.stream) filter (
            where s.ready_at is null and not s.blocked), '{}')
        into there, idle
        from (select distinct u from unnest(streams) u) u
        cross join lateral (
            select * from outbox.stream x
            where x.bucket = kernel.bucket_of(u.u) and x.stream = u.u limit 1) s;
        if cardinality(there) is distinct from (select count(distinct u) from unnest(streams) u)
        then
            raise exception 'an effect names a stream that is not there (% of % are)',
                coalesce(cardinality(there), 0), cardinality(streams) using errcode = 'KH006';
        end if;
    end if;
    if cardinality(streams) > 1 then
        select array_agg(x.nth order by x.ord) into nths
        from (select u.ord, row_number() over (partition by u.stream order by u.ord) as nth
              from unnest(streams) with ordinality as u(stream, ord)) x
        where cardinality(streams) > (select count(distinct u) from unnest(streams) u);
    end if;
    insert into outbox.effect (bucket, stream, seq, id, topic, payload, valid_while, source,
                               request_id, at)
    select x.home, x.stream, x.last + coalesce(nths[x.ord], 1), x.id, x.topic, x.payload,
           x.valid_while, x.source, x.request_id, at
    from (select u.*, kernel.bucket_of(u.stream) as home,
                 coalesce((select e.seq from outbox.effect e
                           where e.bucket = kernel.bucket_of(u.stream) and e.stream = u.stream
                           order by e.seq desc limit 1), 0) as last
          from unnest(streams, ids, topics, payloads, request_ids, valid_whiles, sources)
               with ordinality
               as u(stream, id, topic, payload, request_id, valid_while, source, ord)
          offset 0) x;
    if idle <> '{}' then
        update outbox.stream s set ready_at = at
        from (select u from unnest(streams) u intersect select i from unnest(idle) i) w
        where s.bucket = kernel.bucket_of(w.u) and s.stream = w.u and s.ready_at is null;
    end if;
end $$;

-- One effect of a stream that tells the story of one row, which the caller has locked: the same,
-- without what arrays cost. The stream's row need not be locked yet. Returns the effect's seq.
create function outbox._append_one(
    stream uuid, id uuid, topic text, payload jsonb, request_id text, at timestamptz,
    out seq bigint)
language plpgsql as $$
#variable_conflict use_variable
declare
    home smallint := kernel.bucket_of(stream);
    idle boolean;
begin
    select x.ready_at is null and not x.blocked into idle
    from outbox.stream x where x.bucket = home and x.stream = stream for update;
    if idle is null then
        raise exception 'an effect names a stream that is not there' using errcode = 'KH006';
    end if;
    select e.seq into seq from outbox.effect e
    where e.bucket = home and e.stream = stream order by e.seq desc limit 1;
    seq := coalesce(seq, 0) + 1;
    insert into outbox.effect (bucket, stream, seq, id, topic, payload, request_id, at)
    values (home, stream, seq, id, topic, payload, request_id, at);
    if idle then
        update outbox.stream x set ready_at = at where x.bucket = home and x.stream = stream;
    end if;
end $$;

-- Leases streams that have something to send and returns their next effects, in order. A lease is
-- `ready_at` in the future plus a new token. `conditional` effects are asked about once more, with
-- outbox.still_valid, at the moment of sending.
create function outbox.lease(most_streams int, most_effects int, lease_seconds double precision)
returns table (stream uuid, token uuid, attempts int, seq bigint, id uuid, topic text,
               payload jsonb, valid boolean, request_id text, at timestamptz, channel text,
               source uuid, conditional boolean, blocks boolean)
language plpgsql as $$
#variable_conflict use_column
declare
    moment timestamptz := kernel.now();
begin
    perform outbox._ripen(moment, most_streams);
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
        returning s.bucket, s.stream, s.token, s.attempts, s.done_seq, s.channel)
    select l.stream, l.token, l.attempts, e.seq, e.id, e.topic, e.payload,
           outbox._still_valid(e.valid_while), e.request_id, e.at, l.channel,
           coalesce(e.source, e.id), e.valid_while is not null,
           coalesce(k.blocks, l.channel <> 'push')
    from leased l
    cross join lateral (
        select * from outbox.effect e
        where e.bucket = l.bucket and e.stream = l.stream and e.seq > l.done_seq
        order by e.seq
        limit most_effects) e
    left join outbox.kind k on k.topic = e.topic
    order by l.stream, e.seq;
end $$;
select kernel.plan_by_index('outbox.lease');

-- Is what the effect speaks of still so? valid_while = {entity, id, statuses, also?}, or a list of
-- them that must all hold; `also` names further columns with the values they must have.
create function outbox._still_valid(valid_while jsonb)
returns boolean language plpgsql as $$
declare
    one    jsonb;
    entity text;
    holds  boolean;
begin
    for one in select * from jsonb_array_elements(case jsonb_typeof(valid_while)
        when 'array' then valid_while when 'object' then jsonb_build_array(valid_while)
        else '[]' end)
    loop
        select m.entity into strict entity from transitions.machine m
        where m.machine = one ->> 'entity';
        execute format('select exists (select from %s t where bucket = kernel.bucket_of($1)
                        and id = $1 and status = any ($2) and to_jsonb(t) @> $3)', entity)
        into holds
        using (one ->> 'id')::uuid, array(select jsonb_array_elements_text(one -> 'statuses')),
              coalesce(one -> 'also', '{}');
        if not holds then
            return false;
        end if;
    end loop;
    return true;
end $$;

-- Asked right before sending: does the relay still hold the stream, and does what the effect
-- speaks of still hold? Outcomes: ok, cancelled, lease_lost.
create function outbox.still_valid(stream uuid, token uuid, seq bigint)
returns text language plpgsql as $$
#variable_conflict use_variable
declare
    held boolean;
    cond jsonb;
begin
    select s.token = token and s.ready_at > kernel.now() into held from outbox.stream s
    where s.bucket = kernel.bucket_of(stream) and s.stream = stream;
    if held is not true then
        return 'lease_lost';
    end if;
    select e.valid_while into cond from outbox.effect e
    where e.bucket = kernel.bucket_of(stream) and e.stream = stream and e.seq = seq;
    return case when outbox._still_valid(cond) then 'ok' else 'cancelled' end;
end $$;

-- What became of the effects of leased streams, in the order sent. Outcomes: delivered (of all up
-- to this one), cancelled (no longer valid), failed (try again after `retry_seconds`), later (the
-- same, but it counts no attempt: quiet hours), dead (blocks the stream until an admin redrives or
-- skips it), skipped (dead, but the topic does not block). All but delivered speak of the next one
-- alone. Members whose token is no longer current change nothing and say lease_lost; what was
-- settled before is ok again.
create function outbox.settle(
    streams uuid[], tokens uuid[], upto bigint[], outcomes text[], errors text[],
    retry_seconds double precision[])
returns table (ord int, code text)
language plpgsql as $$
#variable_conflict use_column
declare
    towards uuid[] := outbox._destinations(streams, outcomes);
    moment  timestamptz;
    m       record;
    s       outbox.stream;
begin
    perform outbox._lock(streams || towards, true);
    moment := kernel.now();
    for m in
        select u.ord::int, u.stream, u.token, u.seq, u.outcome, u.error, u.retry
        from unnest(streams, tokens, upto, outcomes, errors, retry_seconds) with ordinality
             as u(stream, token, seq, outcome, error, retry, ord)
        order by u.stream, u.seq
    loop
        select * into s from outbox.stream x
        where x.bucket = kernel.bucket_of(m.stream) and x.stream = m.stream;
        ord := m.ord;
        code := 'ok';
        if s.token is distinct from m.token then
            code := 'lease_lost';
        elsif m.seq > s.done_seq then
            if towards <> '{}' and s.channel = 'log' and m.outcome = 'delivered' then
                perform outbox._fan_out(s, m.seq, towards, moment);
            end if;
            perform outbox._settle_one(s, m.seq, m.outcome, m.error, m.retry, moment);
        end if;
        return next;
    end loop;
end $$;
select kernel.plan_by_index('outbox.settle');

create function outbox._settle_one(
    s outbox.stream, upto bigint, outcome text, problem text, retry double precision,
    at timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    counts    int := case outcome when 'later' then 0 else 1 end;
    to_status text := case outcome when 'delivered' then 'DELIVERED' when 'cancelled' then
                      'CANCELLED' when 'skipped' then 'SKIPPED' when 'dead' then 'DEAD' end;
    last      bigint := outbox._last(s);
begin
    if upto > last or (outcome <> 'delivered' and upto <> s.done_seq + 1) then
        raise exception 'effect % of stream % cannot be % while % is the last one settled',
            upto, s.stream, outcome, s.done_seq using errcode = 'KH006';
    end if;
    if outcome in ('failed', 'later') then
        update outbox.effect e set attempts = e.attempts + counts, error = problem
        where e.bucket = s.bucket and e.stream = s.stream and e.seq = upto;
        update outbox.stream x
        set token = null, attempts = x.attempts + counts,
            ready_at = at + make_interval(secs => retry)
        where x.bucket = s.bucket and x.stream = s.stream;
        return;
    end if;
    update outbox.effect e
    set status = to_status, finished_at = at, attempts = e.attempts + 1, error = problem
    where e.bucket = s.bucket and e.stream = s.stream and e.status = 'READY'
      and e.seq > s.done_seq and e.seq <= upto;
    -- A dead letter stays the next one in its stream: nothing passes it.
    update outbox.stream x
    set done_seq = case outcome when 'dead' then s.done_seq else upto end,
        attempts = 0, blocked = outcome = 'dead',
        token = case when outcome = 'dead' then null else x.token end,
        ready_at = case when outcome = 'dead' or upto >= last then null
                        else x.ready_at end
    where x.bucket = s.bucket and x.stream = s.stream;
end $$;

-- The relay is done with these streams for now: what is left in them is due at once. Locked first:
-- what was appended while we waited for the lock must be seen by the statement that looks for it.
create function outbox.release(streams uuid[], tokens uuid[])
returns int language plpgsql as $$
#variable_conflict use_column
declare
    moment   timestamptz;
    released int;
begin
    perform outbox._lock(streams, true);
    moment := kernel.now();
    update outbox.stream s
    set token = null, ready_at = case when s.done_seq < outbox._last(s) then moment end
    from unnest(streams, tokens) as u(stream, token)
    where s.bucket = kernel.bucket_of(u.stream) and s.stream = u.stream and s.token = u.token;
    get diagnostics released = row_count;
    return released;
end $$;

-- Locks streams in id order; returns who was locked.
create function outbox._lock(streams uuid[], wait boolean)
returns uuid[] language plpgsql as $$
begin
    return (outbox._lock_idle(streams, wait)).locked;
end $$;

-- The same, and which of them have nothing to send.
create function outbox._lock_idle(
    streams uuid[], wait boolean, out locked uuid[], out idle uuid[])
language plpgsql as $$
#variable_conflict use_variable
begin
    if wait then
        select array_agg(t.stream), array_agg(t.stream) filter (where t.idle) into locked, idle
        from (
            select s.stream, s.ready_at is null and not s.blocked as idle
            from (select distinct u from unnest(streams) u) x
            join outbox.stream s on s.bucket = kernel.bucket_of(x.u) and s.stream = x.u
            order by s.stream for update of s) t;
    else
        select array_agg(t.stream), array_agg(t.stream) filter (where t.idle) into locked, idle
        from (
            select s.stream, s.ready_at is null and not s.blocked as idle
            from (select distinct u from unnest(streams) u) x
            join outbox.stream s on s.bucket = kernel.bucket_of(x.u) and s.stream = x.u
            order by s.stream for update of s skip locked) t;
    end if;
    locked := coalesce(locked, '{}');
    idle := coalesce(idle, '{}');
end $$;
