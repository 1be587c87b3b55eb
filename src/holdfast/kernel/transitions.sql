-- Transitions: states only move along declared edges.
--
-- A machine is declared once, as a small table in the file of the system that owns it:
--
--     select transitions.declare('job', 'queue.job', $$
--         queued, processing, completed, failed, cancelled
--         claim:  queued → processing (worker)
--         cancel: queued | processing → cancelled (owner, admin)
--         take:   PENDING → PROCESSING (operator) as ASSIGNED_TO_OPERATOR
--     $$);
--
-- The first line names the statuses (the first is where a row starts), each other line the edges
-- of one verb. From these rows install() makes the guards: one function a table, with the whole
-- matrix written out, so that an illegal move, whoever writes it, is refused with KH001. The matrix
-- does not stand in the trigger's WHEN: that is read, planned and thrown away by every statement,
-- which costs a single UPDATE more than the row itself. The same rows draw the diagram
-- (GET /api/machines), list what a row allows, and feed the tests.

-- Declares one machine over one table; declared again, it replaces what was.
create function transitions.declare(machine text, entity text, edges text)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    line     text;
    parts    text[];
    statuses text[];
begin
    delete from transitions.machine m where m.machine = declare.machine;
    for line in
        select btrim(l) from regexp_split_to_table(edges, '\n') l where btrim(l) <> ''
    loop
        if statuses is null then
            statuses := regexp_split_to_array(line, '\s*,\s*');
            insert into transitions.machine values (machine, entity, statuses[1]);
            insert into transitions.status
                select machine, s, n from unnest(statuses) with ordinality as t(s, n);
            continue;
        end if;
        parts := regexp_match(line,
            '^(\w+):\s*([\w |]+?)\s*→\s*([\w |]+?)\s*\(([^)]+)\)(?:\s+as\s+(\S+))?$');
        if parts is null then
            raise exception 'machine %: cannot read the edge "%"', machine, line;
        end if;
        insert into transitions.edge
            select machine, parts[1], f, t, parts[4],
                   coalesce(parts[5], split_part(entity, '.', 1) || '.' || parts[1])
            from regexp_split_to_table(parts[2], '\s*\|\s*') f,
                 regexp_split_to_table(parts[3], '\s*\|\s*') t;
    end loop;
end $$;

-- One machine's guards. `writer` is the role the verbs run as: its moves are traced by the verbs
-- themselves, anybody else's by the guard. On a user's own table (writer is '') every move is
-- somebody's own SQL, by a role that may not write audit rows: a trigger of ours does it for him.
create function transitions._guard(machine text, entity text, initial text, writer text)
returns void language plpgsql as $$
declare
    legal text;
    guard text := transitions._guard_of(entity);
begin
    select string_agg(quote_literal(e.from_status || ' ' || e.to_status), ', '
                      order by e.from_status, e.to_status)
    into legal
    from (select distinct x.from_status, x.to_status from transitions.edge x
          where x.machine = _guard.machine and x.from_status <> x.to_status) e;
    execute format('drop trigger if exists guard_start on %1$s;
                    drop trigger if exists guard_move on %1$s;
                    drop trigger if exists trace_raw on %1$s', entity);
    -- One question for a move of ours; who has to be refused or traced is asked about at leisure.
    execute format($template$
         create or replace function %1$s() returns trigger language plpgsql as $guard$
         begin
             if old.status is distinct from new.status and (
                 (old.status || ' ' || new.status in (%2$s)) is not true %3$s)
             then
                 if (old.status || ' ' || new.status in (%2$s)) is not true then
                     raise exception '%%.%% %% may not go from %% to %%',
                         tg_table_schema, tg_table_name, new.id, old.status, new.status
                         using errcode = 'KH001',
                               hint = 'GET /api/machines shows every status and edge.';
                 end if;
                 %4$s
             end if;
             return new;
         end $guard$ $template$, guard, coalesce(legal, 'null'),
        case when writer <> '' then format('or current_user <> %L', writer) end,
        case when writer <> '' then
            format('perform audit._trace_raw(%L, new.id, old.status, new.status);', machine) end);
    execute format('create trigger guard_start before insert on %s for each row
                    when (new.status <> %L) execute function transitions.refuse_start(%L)',
                   entity, initial, initial);
    execute format('create trigger guard_move before update on %s for each row
                    execute function %s()', entity, guard);
    if writer = '' then
        execute format('create trigger trace_raw after update on %s for each row
                        when (old.status is distinct from new.status)
                        execute function audit.trace_raw(%L)', entity, machine);
    end if;
end $$;

create function transitions._guard_of(entity text) returns text
language sql immutable as $$
    select format('transitions.%I', 'guard_' || replace(entity, '.', '_'))
$$;

-- A machine declared later, on a user's own table: its moves are always somebody's own SQL.
create function transitions._raise_guards(called text)
returns void language plpgsql as $$
declare
    m transitions.machine;
begin
    select * into strict m from transitions.machine x where x.machine = called;
    perform transitions._guard(m.machine, m.entity, m.initial, '');
end $$;

-- Called by the installer after every machine has been declared. A user's table may be gone.
create function transitions.install(writer text)
returns int language plpgsql as $$
declare
    m     transitions.machine;
    built int := 0;
begin
    for m in delete from transitions.machine x where to_regclass(x.entity) is null returning x.*
    loop
        execute format('drop function if exists %s()', transitions._guard_of(m.entity));
    end loop;
    for m in select * from transitions.machine order by machine loop
        perform transitions._guard(m.machine, m.entity, m.initial, writer);
        built := built + 1;
    end loop;
    return built;
end $$;

-- Everything about every machine, for GET /api/machines.
create function transitions.machines()
returns table (machine text, entity text, initial text, statuses text[], edges jsonb)
language sql stable as $$
    select m.machine, m.entity, m.initial,
           (select array_agg(s.status order by s.position)
            from transitions.status s where s.machine = m.machine),
           (select jsonb_agg(jsonb_build_object('verb', e.verb, 'from', e.from_status,
                                                'to', e.to_status, 'who', e.who,
                                                'action', e.action)
                             order by e.verb, e.from_status, e.to_status)
            from transitions.edge e where e.machine = m.machine)
    from transitions.machine m
    order by m.machine
$$;
