-- Row level security as people write it: 100 cases
-- Facts and logic of public policies, written again. Loads into an empty plain PostgreSQL 15 (needs contrib ltree) with
--   psql -v ON_ERROR_STOP=1 -f corpus.sql
-- Every case has a line that begins with "-- @case " followed by one JSON object:
--   id, class, level, shape, origin (repo: a named repository, index: a public file without its name, variant: mine), source, entities [{table, key}], users [{name, role, claims, settings?}], moves [sql], writes [{user, sql}], flags, note
-- To read as a user:  begin; set local role <role>; select set_config('request.jwt.claims', <claims as json>, true);
--   one set_config(name, value, true) per entry of settings; select .. from <id>.<table>; rollback;
-- claims null means that request.jwt.claims is not set at all. Moves are run in their order by the owner (search_path = <id>, public)
-- and change who sees what. Writes are tried by the user named, each from the initial state. What PostgreSQL 15 answered is in corpus.json.
-- flags: uniform (all users named see the same), nomove, error (every read fails with 42P17), clock (rows come or go 6 s after loading without a write)
-- level: L0 constant, L1 own row, L2 uncorrelated subquery, L3 correlated, L4 inlinable function, L5 extended (CASE, IF, LIMIT, ILIKE, unnest),
--   L6 opaque function without row arguments, L7 clock, L8 regular expression, L9 needs the database (counts, recursion, dynamic SQL, loops with row arguments)
-- shape: what the OR of ANDs of the reading policies is made of: R row only, S session only, K column of the row in a set of the session,
--   F function of row columns, containment of arrays or jsonb, negated key, mixed; none: no reading policy
set client_min_messages = warning;
do $$
begin
  if not exists (select from pg_roles where rolname = 'anon') then create role anon nologin noinherit; end if;
  if not exists (select from pg_roles where rolname = 'authenticated') then create role authenticated nologin noinherit; end if;
  if not exists (select from pg_roles where rolname = 'service_role') then create role service_role nologin noinherit bypassrls; end if;
  if not exists (select from pg_roles where rolname = 'corpus_auditor') then create role corpus_auditor nologin; end if;
  if not exists (select from pg_roles where rolname = 'corpus_auditor_login') then create role corpus_auditor_login nologin in role corpus_auditor; end if;
end $$;
create extension if not exists ltree with schema public;
create schema if not exists auth;
create schema if not exists storage;
grant usage on schema auth, storage, public to anon, authenticated, service_role, corpus_auditor;
create or replace function auth.jwt() returns jsonb language sql stable as
  $$ select coalesce(nullif(current_setting('request.jwt.claim', true), ''), nullif(current_setting('request.jwt.claims', true), ''))::jsonb $$;
create or replace function auth.uid() returns uuid language sql stable as
  $$ select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
create or replace function auth.role() returns text language sql stable as
  $$ select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''), nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role') $$;
create or replace function auth.email() returns text language sql stable as
  $$ select coalesce(nullif(current_setting('request.jwt.claim.email', true), ''), nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email') $$;
create or replace function storage.foldername(name text) returns text[] language plpgsql immutable as
  $$ declare p text[]; begin p := string_to_array(name, '/'); return p[1:array_length(p, 1) - 1]; end $$;
create or replace function storage.filename(name text) returns text language plpgsql immutable as
  $$ declare p text[]; begin p := string_to_array(name, '/'); return p[array_length(p, 1)]; end $$;

-- @case {"id": "case_001", "class": "const", "level": "L0", "source": "supabase/supabase examples/supa-builder", "entities": [{"table": "role_rows", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": [], "writes": [{"user": "alice", "sql": "insert into role_rows values (3,'c')"}, {"user": "alice", "sql": "update role_rows set who='z'"}, {"user": "alice", "sql": "delete from role_rows"}], "shape": "RS", "origin": "repo", "flags": [], "note": ""}
create schema case_001;
grant usage on schema case_001 to anon, authenticated, service_role;
set search_path = case_001, public;
create table role_rows(id int primary key, who text);
insert into role_rows values (1,'a'),(2,'b');
alter table role_rows enable row level security;
create policy p1 on role_rows for select to authenticated using (true);
create policy p2 on role_rows for insert to authenticated with check (false);
create policy p3 on role_rows for update to authenticated using (false);
create policy p4 on role_rows for delete to authenticated using (false);
grant select, insert, update, delete on all tables in schema case_001 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_002", "class": "const", "level": "L0", "source": "default deny: RLS on and no policy at all (frequent in private tables; supabase/splinter lint rls_enabled_no_policy)", "entities": [{"table": "secrets", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}, {"name": "service", "role": "service_role", "claims": {"role": "service_role"}}], "moves": [], "writes": [{"user": "alice", "sql": "insert into secrets values (3,'u')"}], "shape": "none", "origin": "repo", "flags": [], "note": "service_role has BYPASSRLS"}
create schema case_002;
grant usage on schema case_002 to anon, authenticated, service_role;
set search_path = case_002, public;
create table secrets(id int primary key, v text);
insert into secrets values (1,'s'),(2,'t');
alter table secrets enable row level security;
grant select, insert, update, delete on all tables in schema case_002 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_003", "class": "owner_uid", "level": "L1", "source": "mckaywrigley/chatbot-ui workspaces", "entities": [{"table": "workspaces", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update workspaces set user_id=null where id=1", "update workspaces set user_id='a11ce000-0000-4000-8000-000000000001' where id=3"], "writes": [{"user": "alice", "sql": "update workspaces set name='n' where id=1"}, {"user": "alice", "sql": "update workspaces set user_id='b0b00000-0000-4000-8000-000000000002' where id=1"}], "shape": "RSK", "origin": "repo", "flags": [], "note": "for all, role public; null owner is seen by nobody, nor by a session without sub"}
create schema case_003;
grant usage on schema case_003 to anon, authenticated, service_role;
set search_path = case_003, public;
create table workspaces(id int primary key, user_id uuid, name text);
insert into workspaces values (1,'a11ce000-0000-4000-8000-000000000001','home'),(2,'b0b00000-0000-4000-8000-000000000002','lab'),(3,null,'orphan');
alter table workspaces enable row level security;
create policy p1 on workspaces using (user_id = auth.uid()) with check (user_id = auth.uid());
grant select, insert, update, delete on all tables in schema case_003 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_004", "class": "owner_uid", "level": "L1", "source": "powersync-ja/powersync-js profiles demo flag", "entities": [{"table": "profiles", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update profiles set demo=false where id='b0b00000-0000-4000-8000-000000000002'", "update profiles set demo=true where id='ca401000-0000-4000-8000-000000000003'"], "writes": [{"user": "alice", "sql": "update profiles set nick='q' where id='b0b00000-0000-4000-8000-000000000002'"}, {"user": "alice", "sql": "update profiles set demo=false where id='b0b00000-0000-4000-8000-000000000002'"}], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_004;
grant usage on schema case_004 to anon, authenticated, service_role;
set search_path = case_004, public;
create table profiles(id uuid primary key, demo boolean not null, nick text);
insert into profiles values ('a11ce000-0000-4000-8000-000000000001',false,'al'),('b0b00000-0000-4000-8000-000000000002',true,'bo'),('ca401000-0000-4000-8000-000000000003',false,'ca');
alter table profiles enable row level security;
create policy p1 on profiles for select using (auth.uid() = id or (demo = true and auth.uid() is not null));
create policy p2 on profiles for update using (auth.uid() = id or demo = true) with check (auth.uid() = id or demo = true);
grant select, insert, update, delete on all tables in schema case_004 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_005", "class": "owner_uid", "level": "L1", "source": "supabase/walrus notes", "entities": [{"table": "notes", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update notes set user_id='ca401000-0000-4000-8000-000000000003' where id=3"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_005;
grant usage on schema case_005 to anon, authenticated, service_role;
set search_path = case_005, public;
create table notes(id int primary key, user_id uuid, body text);
insert into notes values (1,'a11ce000-0000-4000-8000-000000000001','x'),(2,'b0b00000-0000-4000-8000-000000000002','y'),(3,'a11ce000-0000-4000-8000-000000000001','z');
alter table notes enable row level security;
create policy p1 on notes to authenticated using (user_id = auth.uid());
grant select, insert, update, delete on all tables in schema case_005 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_006", "class": "owner_wrapped", "level": "L1", "source": "fastrepl/hyprnote profiles", "entities": [{"table": "profiles", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}, {"name": "service", "role": "service_role", "claims": {"role": "service_role"}}], "moves": ["insert into profiles values ('ca401000-0000-4000-8000-000000000003','C')", "delete from profiles where id='a11ce000-0000-4000-8000-000000000001'"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_006;
grant usage on schema case_006 to anon, authenticated, service_role;
set search_path = case_006, public;
create table profiles(id uuid primary key, full_name text);
insert into profiles values ('a11ce000-0000-4000-8000-000000000001','A'),('b0b00000-0000-4000-8000-000000000002','B');
alter table profiles enable row level security;
create policy p1 on profiles as permissive for select to authenticated using ((select auth.uid()) = id);
create policy p2 on profiles for update to authenticated using ((select auth.uid()) = id) with check ((select auth.uid()) = id);
create policy p3 on profiles as permissive for all to service_role using (true) with check (true);
grant select, insert, update, delete on all tables in schema case_006 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_007", "class": "owner_wrapped", "level": "L1", "source": "mckaywrigley/chatbot-ui storage objects owner_id", "entities": [{"table": "objects", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update objects set owner_id=owner::text where id=3"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_007;
grant usage on schema case_007 to anon, authenticated, service_role;
set search_path = case_007, public;
create table objects(id int primary key, owner_id text, owner uuid);
insert into objects values (1,'a11ce000-0000-4000-8000-000000000001','a11ce000-0000-4000-8000-000000000001'),(2,'b0b00000-0000-4000-8000-000000000002',null),(3,null,'b0b00000-0000-4000-8000-000000000002');
alter table objects enable row level security;
create policy p1 on objects for select to authenticated using (auth.uid()::text = owner_id::text);
grant select, insert, update, delete on all tables in schema case_007 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_008", "class": "owner_wrapped", "level": "L1", "source": "ArcureDev/supabase-declarative-schema-tests messages (current_setting of one claim, text cast of the wrapped uid)", "entities": [{"table": "msgs", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update msgs set owner_key='transition:b0b00000-0000-4000-8000-000000000002' where id=1"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_008;
grant usage on schema case_008 to anon, authenticated, service_role;
set search_path = case_008, public;
create table msgs(id int primary key, owner_key text);
insert into msgs values (1,'transition:a11ce000-0000-4000-8000-000000000001'),(2,'transition:b0b00000-0000-4000-8000-000000000002'),(3,'other');
alter table msgs enable row level security;
create policy p1 on msgs for select to authenticated using ('transition:' || (select auth.uid())::text = owner_key);
grant select, insert, update, delete on all tables in schema case_008 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_009", "class": "two_party", "level": "L1", "source": "powersync-ja/powersync-js messages", "entities": [{"table": "messages", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update messages set recipient_id='a11ce000-0000-4000-8000-000000000001' where id=2"], "writes": [{"user": "alice", "sql": "insert into messages values (9,'b0b00000-0000-4000-8000-000000000002','a11ce000-0000-4000-8000-000000000001','forged')"}], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_009;
grant usage on schema case_009 to anon, authenticated, service_role;
set search_path = case_009, public;
create table messages(id int primary key, sender_id uuid, recipient_id uuid, body text);
insert into messages values (1,'a11ce000-0000-4000-8000-000000000001','b0b00000-0000-4000-8000-000000000002','hi'),(2,'b0b00000-0000-4000-8000-000000000002','ca401000-0000-4000-8000-000000000003','yo'),(3,'ca401000-0000-4000-8000-000000000003','a11ce000-0000-4000-8000-000000000001','hm'),(4,'ca401000-0000-4000-8000-000000000003','ca401000-0000-4000-8000-000000000003','me');
alter table messages enable row level security;
create policy p1 on messages for select using (auth.uid() = sender_id or auth.uid() = recipient_id);
create policy p2 on messages for insert with check (auth.uid() = sender_id);
grant select, insert, update, delete on all tables in schema case_009 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_010", "class": "two_party", "level": "L1", "source": "gafniasaf/lovable-supabase-glue parent_links style (creator or assignee or reviewer)", "entities": [{"table": "tickets", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update tickets set assignee='ca401000-0000-4000-8000-000000000003' where id=2", "update tickets set reviewer=null where id=3"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_010;
grant usage on schema case_010 to anon, authenticated, service_role;
set search_path = case_010, public;
create table tickets(id int primary key, created_by uuid, assignee uuid, reviewer uuid, state text);
insert into tickets values (1,'a11ce000-0000-4000-8000-000000000001',null,null,'open'),(2,'b0b00000-0000-4000-8000-000000000002','a11ce000-0000-4000-8000-000000000001',null,'open'),(3,'b0b00000-0000-4000-8000-000000000002','ca401000-0000-4000-8000-000000000003','a11ce000-0000-4000-8000-000000000001','done'),(4,'ca401000-0000-4000-8000-000000000003',null,null,'open');
alter table tickets enable row level security;
create policy p1 on tickets for select to authenticated using (created_by = auth.uid() or assignee = auth.uid() or reviewer = auth.uid());
grant select, insert, update, delete on all tables in schema case_010 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_011", "class": "status_literal", "level": "L1", "source": "mckaywrigley/chatbot-ui presets", "entities": [{"table": "presets", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update presets set sharing='private' where id=2", "update presets set sharing='public' where id=1"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_011;
grant usage on schema case_011 to anon, authenticated, service_role;
set search_path = case_011, public;
create table presets(id int primary key, user_id uuid, sharing text not null);
insert into presets values (1,'a11ce000-0000-4000-8000-000000000001','private'),(2,'a11ce000-0000-4000-8000-000000000001','public'),(3,'b0b00000-0000-4000-8000-000000000002','link');
alter table presets enable row level security;
create policy p1 on presets using (user_id = auth.uid()) with check (user_id = auth.uid());
create policy p2 on presets for select using (sharing <> 'private');
grant select, insert, update, delete on all tables in schema case_011 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_012", "class": "status_literal", "level": "L1", "source": "SUPABASE-V1/edupro job_postings without the clock", "entities": [{"table": "jobs", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update jobs set seats=1 where id=3", "update jobs set remote=true where id=3", "update jobs set status='draft' where id=1"], "writes": [], "shape": "RS", "origin": "repo", "flags": ["uniform"], "note": "enum IN, int >, bare boolean column with null"}
create schema case_012;
grant usage on schema case_012 to anon, authenticated, service_role;
set search_path = case_012, public;
create type case_012.job_state as enum ('draft','active','closed');
create table jobs(id int primary key, status case_012.job_state not null, seats int, remote boolean);
insert into jobs values (1,'active',2,true),(2,'draft',1,true),(3,'active',0,false),(4,'closed',5,null);
alter table jobs enable row level security;
create policy p1 on jobs for select to anon, authenticated using (status in ('active','closed') and seats > 0 and remote);
grant select, insert, update, delete on all tables in schema case_012 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_013", "class": "owner_or_public", "level": "L1", "source": "subzerocloud/postgrest-starter-kit todo", "entities": [{"table": "todo", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update todo set private=true where id=2"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_013;
grant usage on schema case_013 to anon, authenticated, service_role;
set search_path = case_013, public;
create table todo(id int primary key, owner_id uuid, private boolean not null);
insert into todo values (1,'a11ce000-0000-4000-8000-000000000001',true),(2,'a11ce000-0000-4000-8000-000000000001',false),(3,'b0b00000-0000-4000-8000-000000000002',true),(4,null,false);
alter table todo enable row level security;
create policy p1 on todo for select using ((auth.role() = 'authenticated' and owner_id = auth.uid()) or private = false);
grant select, insert, update, delete on all tables in schema case_013 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_014", "class": "owner_or_public", "level": "L1", "source": "supabase/supabase examples/supa-builder projects (own and not deleted)", "entities": [{"table": "projects", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update projects set deleted_at=now() where id=1", "update projects set deleted_at=null where id=2"], "writes": [{"user": "alice", "sql": "update projects set org='z' where id=2"}], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_014;
grant usage on schema case_014 to anon, authenticated, service_role;
set search_path = case_014, public;
create table projects(id int primary key, creator_id uuid, org text, deleted_at timestamptz);
insert into projects values (1,'a11ce000-0000-4000-8000-000000000001','o',null),(2,'a11ce000-0000-4000-8000-000000000001','o','2026-03-01'),(3,'b0b00000-0000-4000-8000-000000000002','p',null);
alter table projects enable row level security;
create policy p1 on projects for select to authenticated using (creator_id = auth.uid() and deleted_at is null);
grant select, insert, update, delete on all tables in schema case_014 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_015", "class": "role_target", "level": "L1", "source": "supabase/supabase-js todos: different policies to anon and authenticated", "entities": [{"table": "todos", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update todos set is_open=false where id=1"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": "authenticated does not inherit the anon policy"}
create schema case_015;
grant usage on schema case_015 to anon, authenticated, service_role;
set search_path = case_015, public;
create table todos(id int primary key, user_id uuid, is_open boolean);
insert into todos values (1,'a11ce000-0000-4000-8000-000000000001',true),(2,'a11ce000-0000-4000-8000-000000000001',false),(3,'b0b00000-0000-4000-8000-000000000002',false);
alter table todos enable row level security;
create policy p1 on todos for select to anon using (is_open);
create policy p2 on todos for select to authenticated using (auth.uid() = user_id);
grant select, insert, update, delete on all tables in schema case_015 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_016", "class": "role_target", "level": "L1", "source": "jholland-systems/postgres-rls-multi-tenant (policy to app_readonly_admin), PostgREST/postgrest-docs role system", "entities": [{"table": "ledger", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false, "region": "eu"}}, {"name": "dave", "role": "corpus_auditor_login", "claims": {"sub": "da7e0000-0000-4000-8000-000000000004", "role": "corpus_auditor_login", "email": "dave@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update ledger set region='eu' where id=2"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": "role membership: policies apply to members of the role; corpus_auditor_login inherits corpus_auditor"}
create schema case_016;
grant usage on schema case_016 to anon, authenticated, service_role;
set search_path = case_016, public;
create table ledger(id int primary key, region text);
insert into ledger values (1,'eu'),(2,'us');
alter table ledger enable row level security;
create policy p1 on ledger for select to corpus_auditor using (true);
create policy p2 on ledger for select to authenticated using (region = auth.jwt() ->> 'region');
grant select, insert, update, delete on all tables in schema case_016 to anon, authenticated, service_role;
grant usage on schema case_016 to corpus_auditor; grant select on all tables in schema case_016 to corpus_auditor;
reset search_path;

-- @case {"id": "case_017", "class": "role_target", "level": "L1", "source": "Harshit150796/supabase-kindness-collective (uid is not null)", "entities": [{"table": "coupons", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}, {"name": "none", "role": "authenticated", "claims": null, "settings": {}}], "moves": ["update coupons set live=true where id=2"], "writes": [], "shape": "RS", "origin": "repo", "flags": [], "note": "user none: role authenticated but no claims at all"}
create schema case_017;
grant usage on schema case_017 to anon, authenticated, service_role;
set search_path = case_017, public;
create table coupons(id int primary key, code text, live boolean);
insert into coupons values (1,'A',true),(2,'B',false);
alter table coupons enable row level security;
create policy p1 on coupons for select using (auth.uid() is not null and live = true);
grant select, insert, update, delete on all tables in schema case_017 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_018", "class": "claim_scalar", "level": "L1", "source": "GaryAustin1/custom-properties get_my_claim: quoted json text compare", "entities": [{"table": "test_posts", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false, "app_metadata": {"role": "teacher"}}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false, "app_metadata": {"role": "pupil"}}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["insert into test_posts values (3,'z')"], "writes": [], "shape": "RS", "origin": "repo", "flags": [], "note": "json text form with quotes"}
create schema case_018;
grant usage on schema case_018 to anon, authenticated, service_role;
set search_path = case_018, public;
create table test_posts(id int primary key, body text);
insert into test_posts values (1,'x'),(2,'y');
alter table test_posts enable row level security;
create policy p1 on test_posts for select using ((auth.jwt() -> 'app_metadata' -> 'role')::text = '"teacher"');
grant select, insert, update, delete on all tables in schema case_018 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_019", "class": "claim_scalar", "level": "L1", "source": "ArcureDev/supabase-declarative-schema-tests tenant.organizations (claim read from the setting, nullif)", "entities": [{"table": "orgs", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update orgs set owner='a11ce000-0000-4000-8000-000000000001' where id=2"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": "reads the claims setting directly; an empty sub becomes null"}
create schema case_019;
grant usage on schema case_019 to anon, authenticated, service_role;
set search_path = case_019, public;
create table orgs(id int primary key, owner uuid);
insert into orgs values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'b0b00000-0000-4000-8000-000000000002');
alter table orgs enable row level security;
create policy p1 on orgs for select using (owner = nullif(current_setting('request.jwt.claims', true)::json ->> 'sub', '')::uuid);
grant select, insert, update, delete on all tables in schema case_019 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_020", "class": "claim_scalar", "level": "L1", "source": "supabase/realtime tests: coalesce of a boolean claim", "entities": [{"table": "feed", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false, "presence_read": true}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false, "broadcast_read": "true", "presence_read": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "dave", "role": "authenticated", "claims": {"sub": "da7e0000-0000-4000-8000-000000000004", "role": "authenticated", "email": "dave@acme.test", "aal": "aal1", "is_anonymous": false, "presence_read": true, "broadcast_read": true}}], "moves": ["update feed set kind='broadcast' where id=1"], "writes": [], "shape": "RS", "origin": "repo", "flags": [], "note": ""}
create schema case_020;
grant usage on schema case_020 to anon, authenticated, service_role;
set search_path = case_020, public;
create table feed(id int primary key, kind text);
insert into feed values (1,'presence'),(2,'broadcast');
alter table feed enable row level security;
create policy p1 on feed for select to authenticated using (kind = 'presence' and coalesce((current_setting('request.jwt.claims', true)::jsonb ->> 'presence_read')::boolean, false));
create policy p2 on feed for select to authenticated using (kind = 'broadcast' and coalesce((current_setting('request.jwt.claims', true)::jsonb ->> 'broadcast_read')::boolean, false));
grant select, insert, update, delete on all tables in schema case_020 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_021", "class": "claim_scalar", "level": "L1", "source": "AAChibilyaev/supabase-saas-admin: role claim admin or own tenant", "entities": [{"table": "logs", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false, "user_role": "admin"}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false, "tenant": "t1"}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false, "user_role": "member", "tenant": "t3"}}], "moves": ["update logs set tenant='t1' where id=2"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_021;
grant usage on schema case_021 to anon, authenticated, service_role;
set search_path = case_021, public;
create table logs(id int primary key, tenant text, lvl text);
insert into logs values (1,'t1','info'),(2,'t2','warn'),(3,'t1','warn');
alter table logs enable row level security;
create policy p1 on logs for select to authenticated using (auth.jwt() ->> 'user_role' = 'admin' or tenant = auth.jwt() ->> 'tenant');
grant select, insert, update, delete on all tables in schema case_021 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_022", "class": "claim_array", "level": "L1", "source": "point-source/supabase-tenant-rbac: claims object has the group as a key (jsonb ?)", "entities": [{"table": "files", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false, "app_metadata": {"groups": {"7b50ecf8-5afa-57ae-9319-268644fec6db": {"roles": ["owner"]}, "003d3446-7980-5615-af2a-39cd8591b2f6": {"roles": []}}}}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false, "app_metadata": {"groups": {"73ae7eb0-6dbd-549b-a398-1890e28d5e52": {}}}}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update files set group_id='73ae7eb0-6dbd-549b-a398-1890e28d5e52' where id=1"], "writes": [], "shape": "RSK+containment", "origin": "repo", "flags": [], "note": ""}
create schema case_022;
grant usage on schema case_022 to anon, authenticated, service_role;
set search_path = case_022, public;
create table files(id int primary key, group_id uuid);
insert into files values (1,'7b50ecf8-5afa-57ae-9319-268644fec6db'),(2,'73ae7eb0-6dbd-549b-a398-1890e28d5e52'),(3,'003d3446-7980-5615-af2a-39cd8591b2f6');
alter table files enable row level security;
create policy p1 on files for select to authenticated using (auth.jwt() -> 'app_metadata' -> 'groups' ? group_id::text);
grant select, insert, update, delete on all tables in schema case_022 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_023", "class": "claim_array", "level": "L2", "source": "public index file 63110281887 (tenant from app_metadata), set form of the docs example", "entities": [{"table": "invoices", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false, "app_metadata": {"tenants": ["75e7a8db-5975-514b-8990-a3367c410a2a", "28763f2f-d82f-54cf-aa8e-d389524686a1"]}}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false, "app_metadata": {"tenants": ["124f4298-fa2e-58ad-8de8-1de4adf41795"]}}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update invoices set tenant_id='75e7a8db-5975-514b-8990-a3367c410a2a' where id=3"], "writes": [], "shape": "RSK", "origin": "index", "flags": [], "note": ""}
create schema case_023;
grant usage on schema case_023 to anon, authenticated, service_role;
set search_path = case_023, public;
create table invoices(id int primary key, tenant_id uuid, total int);
insert into invoices values (1,'75e7a8db-5975-514b-8990-a3367c410a2a',5),(2,'28763f2f-d82f-54cf-aa8e-d389524686a1',6),(3,'124f4298-fa2e-58ad-8de8-1de4adf41795',7);
alter table invoices enable row level security;
create policy p1 on invoices for select to authenticated using (tenant_id = any (array(select jsonb_array_elements_text(auth.jwt() -> 'app_metadata' -> 'tenants')::uuid)));
grant select, insert, update, delete on all tables in schema case_023 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_024", "class": "guc", "level": "L1", "source": "aws-samples/aws-saas-factory-postgresql-rls tenant", "entities": [{"table": "tenant_user", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}, "settings": {"app.current_tenant": "75e7a8db-5975-514b-8990-a3367c410a2a"}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}, "settings": {"app.current_tenant": "28763f2f-d82f-54cf-aa8e-d389524686a1"}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update tenant_user set tenant_id='75e7a8db-5975-514b-8990-a3367c410a2a' where id=2"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": "original has no missing_ok: an unset setting is an error there"}
create schema case_024;
grant usage on schema case_024 to anon, authenticated, service_role;
set search_path = case_024, public;
create table tenant_user(id int primary key, tenant_id uuid, email text);
insert into tenant_user values (1,'75e7a8db-5975-514b-8990-a3367c410a2a','a'),(2,'28763f2f-d82f-54cf-aa8e-d389524686a1','b');
alter table tenant_user enable row level security;
create policy p1 on tenant_user using (tenant_id = current_setting('app.current_tenant', true)::uuid);
grant select, insert, update, delete on all tables in schema case_024 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_025", "class": "guc", "level": "L1", "source": "prisma/prisma-client-extensions: tenant setting or bypass setting", "entities": [{"table": "project", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}, "settings": {"app.current_company_id": "75e7a8db-5975-514b-8990-a3367c410a2a"}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}, "settings": {"app.bypass_rls": "on"}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}, "settings": {"app.current_company_id": ""}}], "moves": ["update project set company_id='28763f2f-d82f-54cf-aa8e-d389524686a1' where id=1"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_025;
grant usage on schema case_025 to anon, authenticated, service_role;
set search_path = case_025, public;
create table project(id int primary key, company_id uuid, name text);
insert into project values (1,'75e7a8db-5975-514b-8990-a3367c410a2a','a'),(2,'28763f2f-d82f-54cf-aa8e-d389524686a1','b');
alter table project enable row level security;
create policy p1 on project using (company_id = nullif(current_setting('app.current_company_id', true),'')::uuid);
create policy p2 on project using (current_setting('app.bypass_rls', true)::text = 'on');
grant select, insert, update, delete on all tables in schema case_025 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_026", "class": "guc", "level": "L1", "source": "graphile/crystal forum: nullif(current_setting(jwt.claims.person_id))::integer", "entities": [{"table": "post", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}, "settings": {"jwt.claims.person_id": "7"}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}, "settings": {"jwt.claims.person_id": "8"}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update post set author_id=8 where id=1"], "writes": [{"user": "alice", "sql": "delete from post"}], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_026;
grant usage on schema case_026 to anon, authenticated, service_role;
set search_path = case_026, public;
create table post(id int primary key, author_id int);
insert into post values (1,7),(2,8),(3,null);
alter table post enable row level security;
create policy p1 on post for select using (true and author_id = nullif(current_setting('jwt.claims.person_id', true), '')::integer);
create policy p2 on post for delete using (author_id = nullif(current_setting('jwt.claims.person_id', true), '')::integer);
grant select, insert, update, delete on all tables in schema case_026 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_027", "class": "email_claim", "level": "L1", "source": "bb81a/makerkit-app memberships by invitation", "entities": [{"table": "memberships", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update memberships set code='c3' where id=3", "update memberships set invited_email=null, code=null, user_id='b0b00000-0000-4000-8000-000000000002' where id=2"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_027;
grant usage on schema case_027 to anon, authenticated, service_role;
set search_path = case_027, public;
create table memberships(id int primary key, org int, user_id uuid, invited_email text, code text);
insert into memberships values (1,1,'a11ce000-0000-4000-8000-000000000001',null,null),(2,1,null,'bob@acme.test','c1'),(3,2,null,'bob@acme.test',null),(4,2,null,'Bob@acme.test','c2');
alter table memberships enable row level security;
create policy p1 on memberships for select to authenticated using (user_id = auth.uid() or (auth.email() = invited_email and code is not null));
grant select, insert, update, delete on all tables in schema case_027 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_028", "class": "email_claim", "level": "L1", "source": "AAChibilyaev/supabase-saas-admin email_tracking; wilsan007 invitations", "entities": [{"table": "invitations", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update invitations set status='pending' where id=3"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_028;
grant usage on schema case_028 to anon, authenticated, service_role;
set search_path = case_028, public;
create table invitations(id int primary key, email text, status text);
insert into invitations values (1,'alice@acme.test','pending'),(2,'ALICE@ACME.TEST','pending'),(3,'bob@acme.test','used');
alter table invitations enable row level security;
create policy p1 on invitations for select to authenticated using (lower(email) = lower(auth.jwt() ->> 'email') and status = 'pending');
grant select, insert, update, delete on all tables in schema case_028 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_029", "class": "restrictive", "level": "L1", "source": "BhodiSea/next-expo-supabase-agent-harness notes (restrictive mfa), supabase/supabase docs aal2", "entities": [{"table": "notes", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "alice_mfa", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal2", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal2", "is_anonymous": false}}], "moves": ["update notes set user_id='a11ce000-0000-4000-8000-000000000001' where id=2"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_029;
grant usage on schema case_029 to anon, authenticated, service_role;
set search_path = case_029, public;
create table notes(id int primary key, user_id uuid);
insert into notes values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'b0b00000-0000-4000-8000-000000000002');
alter table notes enable row level security;
create policy p1 on notes for select to authenticated using (user_id = auth.uid());
create policy p2 on notes as restrictive for all to authenticated using ((select auth.jwt() ->> 'aal') = 'aal2');
grant select, insert, update, delete on all tables in schema case_029 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_030", "class": "restrictive", "level": "L1", "source": "ArcureDev/supabase-declarative-schema-tests restrictive_notes", "entities": [{"table": "restrictive_notes", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update restrictive_notes set is_published=true where id=2"], "writes": [], "shape": "RS", "origin": "repo", "flags": ["uniform", "nomove"], "note": "no permissive policy: nobody sees anything"}
create schema case_030;
grant usage on schema case_030 to anon, authenticated, service_role;
set search_path = case_030, public;
create table restrictive_notes(id int primary key, is_published boolean);
insert into restrictive_notes values (1,true),(2,false);
alter table restrictive_notes enable row level security;
create policy p1 on restrictive_notes as restrictive for select to authenticated using (is_published);
grant select, insert, update, delete on all tables in schema case_030 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_031", "class": "restrictive", "level": "L1", "source": "public index files 27047133203 (restrictive tenant), 61780302128 (is_anonymous)", "entities": [{"table": "posts", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false, "tenant": "t1"}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false, "tenant": "t2"}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": true, "tenant": "t2"}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update posts set tenant='t2' where id=1", "update posts set public=true where id=4"], "writes": [], "shape": "RSK", "origin": "index", "flags": [], "note": "two restrictive and two permissive; anon is not bound by the restrictive ones"}
create schema case_031;
grant usage on schema case_031 to anon, authenticated, service_role;
set search_path = case_031, public;
create table posts(id int primary key, tenant text, author uuid, public boolean);
insert into posts values (1,'t1','a11ce000-0000-4000-8000-000000000001',false),(2,'t1','b0b00000-0000-4000-8000-000000000002',true),(3,'t2','a11ce000-0000-4000-8000-000000000001',true),(4,'t2','ca401000-0000-4000-8000-000000000003',false);
alter table posts enable row level security;
create policy p1 on posts for select using (public);
create policy p2 on posts for select to authenticated using (author = auth.uid());
create policy p3 on posts as restrictive for select to authenticated using (tenant = auth.jwt() ->> 'tenant');
create policy p4 on posts as restrictive for select to authenticated using (coalesce((auth.jwt() ->> 'is_anonymous')::boolean, false) = false or public);
grant select, insert, update, delete on all tables in schema case_031 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_032", "class": "member_in", "level": "L2", "source": "AAChibilyaev/supabase-saas-admin documents", "entities": [{"table": "members", "key": ["user_id", "team_id"]}, {"table": "documents", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["insert into members values ('b0b00000-0000-4000-8000-000000000002','75e7a8db-5975-514b-8990-a3367c410a2a','member','active')", "delete from members where user_id='a11ce000-0000-4000-8000-000000000001' and team_id='28763f2f-d82f-54cf-aa8e-d389524686a1'", "update documents set team_id='124f4298-fa2e-58ad-8de8-1de4adf41795' where id=1", "update members set team_id='7128d0c1-2463-59e6-a4ec-dc69d05fda94' where user_id='ca401000-0000-4000-8000-000000000003'"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_032;
grant usage on schema case_032 to anon, authenticated, service_role;
set search_path = case_032, public;
create table members(user_id uuid, team_id uuid, role text not null default 'member', status text default 'active', primary key(user_id, team_id));
create table documents(id int primary key, team_id uuid, title text);
insert into members values ('a11ce000-0000-4000-8000-000000000001','75e7a8db-5975-514b-8990-a3367c410a2a','owner','active'),('a11ce000-0000-4000-8000-000000000001','28763f2f-d82f-54cf-aa8e-d389524686a1','member','active'),('b0b00000-0000-4000-8000-000000000002','28763f2f-d82f-54cf-aa8e-d389524686a1','admin','active'),('ca401000-0000-4000-8000-000000000003','124f4298-fa2e-58ad-8de8-1de4adf41795','member','inactive');
insert into documents values (1,'75e7a8db-5975-514b-8990-a3367c410a2a','a'),(2,'28763f2f-d82f-54cf-aa8e-d389524686a1','b'),(3,'124f4298-fa2e-58ad-8de8-1de4adf41795','c'),(4,null,'d');
alter table members enable row level security;
alter table documents enable row level security;
create policy p1 on documents for select using (team_id in (select team_id from members where user_id = auth.uid()));
create policy p2 on members for select using (user_id = auth.uid());
grant select, insert, update, delete on all tables in schema case_032 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_033", "class": "member_in", "level": "L2", "source": "firstp0093/supabase-saas-multi-tenant / taysacunha: role list inside the subquery", "entities": [{"table": "members", "key": ["user_id", "team_id"]}, {"table": "billing", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update members set role='admin' where user_id='a11ce000-0000-4000-8000-000000000001' and team_id='28763f2f-d82f-54cf-aa8e-d389524686a1'", "update members set status='suspended' where user_id='b0b00000-0000-4000-8000-000000000002'", "update members set role='viewer' where user_id='a11ce000-0000-4000-8000-000000000001' and team_id='75e7a8db-5975-514b-8990-a3367c410a2a'"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_033;
grant usage on schema case_033 to anon, authenticated, service_role;
set search_path = case_033, public;
create table members(user_id uuid, team_id uuid, role text not null default 'member', status text default 'active', primary key(user_id, team_id));
create table billing(id int primary key, team_id uuid);
insert into members values ('a11ce000-0000-4000-8000-000000000001','75e7a8db-5975-514b-8990-a3367c410a2a','owner','active'),('a11ce000-0000-4000-8000-000000000001','28763f2f-d82f-54cf-aa8e-d389524686a1','member','active'),('b0b00000-0000-4000-8000-000000000002','28763f2f-d82f-54cf-aa8e-d389524686a1','admin','active'),('ca401000-0000-4000-8000-000000000003','124f4298-fa2e-58ad-8de8-1de4adf41795','member','inactive');
insert into billing values (1,'75e7a8db-5975-514b-8990-a3367c410a2a'),(2,'28763f2f-d82f-54cf-aa8e-d389524686a1'),(3,'124f4298-fa2e-58ad-8de8-1de4adf41795');
alter table members enable row level security;
alter table billing enable row level security;
create policy p1 on billing for select to authenticated using (team_id in (select m.team_id from members m where m.user_id = (select auth.uid()) and m.role in ('owner','admin') and m.status = 'active'));
create policy p2 on members for select using (user_id = auth.uid());
grant select, insert, update, delete on all tables in schema case_033 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_034", "class": "member_in", "level": "L2", "source": "Mahmoudzaineldeen/booktifi_supabase zoho_tokens: tenant from a users table, LIMIT 1", "entities": [{"table": "users", "key": ["id"]}, {"table": "tokens", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update users set role='tenant_admin' where id='b0b00000-0000-4000-8000-000000000002'", "update users set tenant_id='28763f2f-d82f-54cf-aa8e-d389524686a1' where id='a11ce000-0000-4000-8000-000000000001'"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": "LIMIT 1 over a primary key"}
create schema case_034;
grant usage on schema case_034 to anon, authenticated, service_role;
set search_path = case_034, public;
create table users(id uuid primary key, tenant_id uuid, role text);
create table tokens(id int primary key, tenant_id uuid);
insert into users values ('a11ce000-0000-4000-8000-000000000001','75e7a8db-5975-514b-8990-a3367c410a2a','tenant_admin'),('b0b00000-0000-4000-8000-000000000002','75e7a8db-5975-514b-8990-a3367c410a2a','employee'),('ca401000-0000-4000-8000-000000000003',null,'tenant_admin');
insert into tokens values (1,'75e7a8db-5975-514b-8990-a3367c410a2a'),(2,'28763f2f-d82f-54cf-aa8e-d389524686a1'),(3,null);
alter table users enable row level security;
alter table tokens enable row level security;
create policy p1 on tokens for select using (tenant_id is not null and tenant_id in (select tenant_id from users where id = auth.uid() and role = 'tenant_admin' and tenant_id is not null limit 1));
create policy p2 on users for select using (id = auth.uid());
grant select, insert, update, delete on all tables in schema case_034 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_035", "class": "member_in", "level": "L2", "source": "kawhyte/supabase-sneaker-voting outfit_items (children of own parents)", "entities": [{"table": "outfits", "key": ["id"]}, {"table": "outfit_items", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update outfits set user_id='b0b00000-0000-4000-8000-000000000002' where id=1", "update outfit_items set outfit_id=1 where id=2", "delete from outfits where id=2"], "writes": [{"user": "alice", "sql": "insert into outfit_items values (9,2,'x')"}, {"user": "bob", "sql": "update outfit_items set outfit_id=1 where id=2"}], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_035;
grant usage on schema case_035 to anon, authenticated, service_role;
set search_path = case_035, public;
create table outfits(id int primary key, user_id uuid);
create table outfit_items(id int primary key, outfit_id int references outfits(id) on delete cascade, item text);
insert into outfits values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'b0b00000-0000-4000-8000-000000000002');
insert into outfit_items values (1,1,'hat'),(2,2,'cap'),(3,1,'tie');
alter table outfits enable row level security;
alter table outfit_items enable row level security;
create policy p1 on outfits for all using (user_id = auth.uid());
create policy p2 on outfit_items for all using (outfit_id in (select id from outfits where user_id = auth.uid()));
grant select, insert, update, delete on all tables in schema case_035 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_036", "class": "member_in", "level": "L2", "source": "row IN over a composite key", "entities": [{"table": "access", "key": ["user_id", "region", "dept"]}, {"table": "assets", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update access set dept=1 where user_id='b0b00000-0000-4000-8000-000000000002'", "update assets set dept=2 where id=1"], "writes": [], "shape": "RSK", "origin": "variant", "flags": [], "note": ""}
create schema case_036;
grant usage on schema case_036 to anon, authenticated, service_role;
set search_path = case_036, public;
create table access(user_id uuid, region text, dept int, primary key(user_id, region, dept));
create table assets(id int primary key, region text, dept int);
insert into access values ('a11ce000-0000-4000-8000-000000000001','eu',1),('a11ce000-0000-4000-8000-000000000001','us',2),('b0b00000-0000-4000-8000-000000000002','eu',2);
insert into assets values (1,'eu',1),(2,'eu',2),(3,'us',2),(4,'us',null);
alter table access enable row level security;
alter table assets enable row level security;
create policy p1 on assets for select using ((region, dept) in (select region, dept from access where user_id = auth.uid()));
create policy p2 on access for select using (user_id = auth.uid());
grant select, insert, update, delete on all tables in schema case_036 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_037", "class": "member_exists", "level": "L3", "source": "tambo-ai/tambo projects", "entities": [{"table": "members", "key": ["user_id", "team_id"]}, {"table": "projects", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["delete from members where user_id='b0b00000-0000-4000-8000-000000000002'", "insert into members values ('ca401000-0000-4000-8000-000000000003','75e7a8db-5975-514b-8990-a3367c410a2a','member','active')"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_037;
grant usage on schema case_037 to anon, authenticated, service_role;
set search_path = case_037, public;
create table members(user_id uuid, team_id uuid, role text not null default 'member', status text default 'active', primary key(user_id, team_id));
create table projects(id int primary key, team_id uuid);
insert into members values ('a11ce000-0000-4000-8000-000000000001','75e7a8db-5975-514b-8990-a3367c410a2a','owner','active'),('a11ce000-0000-4000-8000-000000000001','28763f2f-d82f-54cf-aa8e-d389524686a1','member','active'),('b0b00000-0000-4000-8000-000000000002','28763f2f-d82f-54cf-aa8e-d389524686a1','admin','active'),('ca401000-0000-4000-8000-000000000003','124f4298-fa2e-58ad-8de8-1de4adf41795','member','inactive');
insert into projects values (1,'75e7a8db-5975-514b-8990-a3367c410a2a'),(2,'28763f2f-d82f-54cf-aa8e-d389524686a1'),(3,'124f4298-fa2e-58ad-8de8-1de4adf41795');
alter table members enable row level security;
alter table projects enable row level security;
create policy p1 on projects as permissive for select to authenticated using (exists (select 1 from members where members.team_id = projects.team_id and members.user_id = (select auth.uid())));
create policy p2 on members for select to authenticated using (user_id = (select auth.uid()));
grant select, insert, update, delete on all tables in schema case_037 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_038", "class": "member_exists", "level": "L3", "source": "supabase/supabase supa-builder: org admins or creator", "entities": [{"table": "user_roles", "key": ["user_id", "organization_id"]}, {"table": "projects", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update user_roles set role='builder' where user_id='a11ce000-0000-4000-8000-000000000001'", "update projects set organization_id='o1' where id=2", "update projects set deleted_at=null where id=3"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_038;
grant usage on schema case_038 to anon, authenticated, service_role;
set search_path = case_038, public;
create table user_roles(user_id uuid, organization_id text, role text, primary key(user_id,organization_id));
create table projects(id int primary key, creator_id uuid, organization_id text, deleted_at timestamptz);
insert into user_roles values ('a11ce000-0000-4000-8000-000000000001','o1','admin'),('b0b00000-0000-4000-8000-000000000002','o1','builder'),('ca401000-0000-4000-8000-000000000003','o2','admin');
insert into projects values (1,'b0b00000-0000-4000-8000-000000000002','o1',null),(2,'ca401000-0000-4000-8000-000000000003','o2',null),(3,'b0b00000-0000-4000-8000-000000000002','o1','2026-01-01'),(4,'a11ce000-0000-4000-8000-000000000001','o2',null);
alter table user_roles enable row level security;
alter table projects enable row level security;
create policy p1 on projects for select to authenticated using (exists (select 1 from user_roles where user_roles.user_id = auth.uid() and user_roles.organization_id = projects.organization_id and user_roles.role = 'admin') and deleted_at is null);
create policy p2 on projects for select to authenticated using (creator_id = auth.uid() and deleted_at is null);
create policy p3 on user_roles for select to authenticated using (user_id = auth.uid());
grant select, insert, update, delete on all tables in schema case_038 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_039", "class": "member_exists", "level": "L3", "source": "gafniasaf/lovable-supabase-glue assignments: join of course and enrolment", "entities": [{"table": "assignments", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "dave", "role": "authenticated", "claims": {"sub": "da7e0000-0000-4000-8000-000000000004", "role": "authenticated", "email": "dave@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update courses set deleted=false where id=2", "update enrollments set active=true where course_id=3 and student='ca401000-0000-4000-8000-000000000003'", "update courses set teacher='b0b00000-0000-4000-8000-000000000002' where id=1"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_039;
grant usage on schema case_039 to anon, authenticated, service_role;
set search_path = case_039, public;
create table courses(id int primary key, teacher uuid, deleted boolean default false);
create table enrollments(course_id int, student uuid, active boolean, primary key(course_id, student));
create table assignments(id int primary key, course_id int, title text);
insert into courses values (1,'a11ce000-0000-4000-8000-000000000001',false),(2,'a11ce000-0000-4000-8000-000000000001',true),(3,'b0b00000-0000-4000-8000-000000000002',false);
insert into enrollments values (1,'ca401000-0000-4000-8000-000000000003',true),(2,'ca401000-0000-4000-8000-000000000003',true),(3,'ca401000-0000-4000-8000-000000000003',false),(3,'da7e0000-0000-4000-8000-000000000004',true);
insert into assignments values (1,1,'a'),(2,2,'b'),(3,3,'c');
alter table assignments enable row level security;
create policy p1 on assignments for select using (exists (select 1 from courses c join enrollments e on e.course_id = c.id where c.id = assignments.course_id and e.student = auth.uid() and e.active and not c.deleted));
create policy p2 on assignments for select using (exists (select 1 from courses where id = assignments.course_id and teacher = auth.uid()));
grant select, insert, update, delete on all tables in schema case_039 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_040", "class": "member_inverted", "level": "L3", "source": "powersync-ja/powersync-docs todos: uid in (select owner of the list)", "entities": [{"table": "lists", "key": ["id"]}, {"table": "todos", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update lists set owner_id='b0b00000-0000-4000-8000-000000000002' where id=1", "update todos set list_id=1 where id=2"], "writes": [{"user": "alice", "sql": "insert into todos values (9,2,'no')"}, {"user": "alice", "sql": "insert into todos values (10,1,'yes')"}], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_040;
grant usage on schema case_040 to anon, authenticated, service_role;
set search_path = case_040, public;
create table lists(id int primary key, owner_id uuid);
create table todos(id int primary key, list_id int, description text);
insert into lists values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'b0b00000-0000-4000-8000-000000000002');
insert into todos values (1,1,'a'),(2,2,'b'),(3,1,'c'),(4,null,'d');
alter table lists enable row level security;
alter table todos enable row level security;
create policy p1 on lists for all using (auth.uid() = owner_id);
create policy p2 on todos for all using (auth.uid() in (select lists.owner_id from lists where lists.id = todos.list_id));
grant select, insert, update, delete on all tables in schema case_040 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_041", "class": "member_inverted", "level": "L3", "source": "vicesoftware/truck-scout-makerkit factoring_companies; GaryAustin1/RLS-Performance slow form", "entities": [{"table": "factors", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update members set team_id='124f4298-fa2e-58ad-8de8-1de4adf41795' where user_id='b0b00000-0000-4000-8000-000000000002'", "delete from members where user_id='a11ce000-0000-4000-8000-000000000001'"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_041;
grant usage on schema case_041 to anon, authenticated, service_role;
set search_path = case_041, public;
create table members(user_id uuid, team_id uuid, role text not null default 'member', status text default 'active', primary key(user_id, team_id));
create table factors(id int primary key, team_id uuid);
insert into members values ('a11ce000-0000-4000-8000-000000000001','75e7a8db-5975-514b-8990-a3367c410a2a','owner','active'),('a11ce000-0000-4000-8000-000000000001','28763f2f-d82f-54cf-aa8e-d389524686a1','member','active'),('b0b00000-0000-4000-8000-000000000002','28763f2f-d82f-54cf-aa8e-d389524686a1','admin','active'),('ca401000-0000-4000-8000-000000000003','124f4298-fa2e-58ad-8de8-1de4adf41795','member','inactive');
insert into factors values (1,'75e7a8db-5975-514b-8990-a3367c410a2a'),(2,'28763f2f-d82f-54cf-aa8e-d389524686a1'),(3,'124f4298-fa2e-58ad-8de8-1de4adf41795');
alter table factors enable row level security;
create policy p1 on factors for select to authenticated using (auth.uid() in (select user_id from members where team_id = factors.team_id));
grant select, insert, update, delete on all tables in schema case_041 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_042", "class": "nested_hops", "level": "L2", "source": "7Spade/ng-alain-gighub-supabase public.accounts (bots of the teams of a user)", "entities": [{"table": "accounts", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update accounts set status='active' where id=20", "insert into team_bots values (1,30)", "delete from team_members where user_id='a11ce000-0000-4000-8000-000000000001'"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_042;
grant usage on schema case_042 to anon, authenticated, service_role;
set search_path = case_042, public;
create table team_members(team_id int, user_id uuid, primary key(team_id,user_id));
create table team_bots(team_id int, bot_id int, primary key(team_id,bot_id));
create table accounts(id int primary key, kind text, status text);
insert into team_members values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'b0b00000-0000-4000-8000-000000000002');
insert into team_bots values (1,10),(2,20),(2,10);
insert into accounts values (10,'Bot','active'),(20,'Bot','deleted'),(30,'Bot','active');
alter table accounts enable row level security;
create policy p1 on accounts for select to authenticated using (kind = 'Bot' and status <> 'deleted' and id in (select tb.bot_id from team_bots tb join team_members tm on tm.team_id = tb.team_id where tm.user_id = auth.uid()));
grant select, insert, update, delete on all tables in schema case_042 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_043", "class": "nested_hops", "level": "L3", "source": "7Spade/ng-alain-gighub-supabase tasks: EXISTS in EXISTS with or", "entities": [{"table": "tasks", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["delete from bp_roles where bp=1", "update blueprints set owner_id='a11ce000-0000-4000-8000-000000000001' where id=2", "update tasks set bp=1 where id=3"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_043;
grant usage on schema case_043 to anon, authenticated, service_role;
set search_path = case_043, public;
create table blueprints(id int primary key, owner_id uuid);
create table bp_roles(bp int, user_id uuid, primary key(bp,user_id));
create table tasks(id int primary key, bp int);
insert into blueprints values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'b0b00000-0000-4000-8000-000000000002');
insert into bp_roles values (1,'ca401000-0000-4000-8000-000000000003'),(2,'ca401000-0000-4000-8000-000000000003');
insert into tasks values (1,1),(2,2),(3,9);
alter table tasks enable row level security;
create policy p1 on tasks for select using (exists (select 1 from blueprints b where b.id = tasks.bp and (b.owner_id = auth.uid() or exists (select 1 from bp_roles where user_id = auth.uid() and bp = b.id))));
grant select, insert, update, delete on all tables in schema case_043 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_044", "class": "nested_hops", "level": "L2", "source": "three nested IN: users of classes of schools (SUPABASE-V1/edupro)", "entities": [{"table": "grades", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "erin", "role": "authenticated", "claims": {"sub": "e4100000-0000-4000-8000-000000000005", "role": "authenticated", "email": "erin@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update classes set school_id=1 where id=2", "update schools set principal='b0b00000-0000-4000-8000-000000000002' where id=1", "insert into class_students values (1,'e4100000-0000-4000-8000-000000000005')"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_044;
grant usage on schema case_044 to anon, authenticated, service_role;
set search_path = case_044, public;
create table schools(id int primary key, principal uuid);
create table classes(id int primary key, school_id int);
create table class_students(class_id int, student uuid, primary key(class_id,student));
create table grades(id int primary key, student uuid, mark int);
insert into schools values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'b0b00000-0000-4000-8000-000000000002');
insert into classes values (1,1),(2,2);
insert into class_students values (1,'ca401000-0000-4000-8000-000000000003'),(2,'da7e0000-0000-4000-8000-000000000004');
insert into grades values (1,'ca401000-0000-4000-8000-000000000003',5),(2,'da7e0000-0000-4000-8000-000000000004',4),(3,'e4100000-0000-4000-8000-000000000005',3);
alter table grades enable row level security;
create policy p1 on grades for select using (student = auth.uid() or student in (select student from class_students where class_id in (select id from classes where school_id in (select id from schools where principal = auth.uid()))));
grant select, insert, update, delete on all tables in schema case_044 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_045", "class": "parent_rls", "level": "L3", "source": "GaryAustin1/RLS-Performance comments; maevsi/sqitch event_app (visible if the parent is)", "entities": [{"table": "posts", "key": ["id"]}, {"table": "comments", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update posts set public=true where id=3", "update posts set public=false where id=2", "update posts set creator='b0b00000-0000-4000-8000-000000000002' where id=1"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": "the subquery is filtered by the policies of posts for the same user"}
create schema case_045;
grant usage on schema case_045 to anon, authenticated, service_role;
set search_path = case_045, public;
create table posts(id int primary key, creator uuid, public boolean);
create table comments(id int primary key, post_id int, body text);
insert into posts values (1,'a11ce000-0000-4000-8000-000000000001',false),(2,'b0b00000-0000-4000-8000-000000000002',true),(3,'b0b00000-0000-4000-8000-000000000002',false);
insert into comments values (1,1,'a'),(2,2,'b'),(3,3,'c'),(4,null,'d');
alter table posts enable row level security;
alter table comments enable row level security;
create policy p1 on posts for select using (auth.uid() = creator or public);
create policy p2 on comments for select using (exists (select 1 from posts where posts.id = comments.post_id));
grant select, insert, update, delete on all tables in schema case_045 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_046", "class": "parent_rls", "level": "L3", "source": "three levels of the parent pattern (maevsi/sqitch event_app, GaryAustin1/RLS-Performance comments)", "entities": [{"table": "channels", "key": ["id"]}, {"table": "channel_users", "key": ["channel_id", "user_id"]}, {"table": "messages", "key": ["id"]}, {"table": "attachments", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["insert into channel_users values (2,'b0b00000-0000-4000-8000-000000000002')", "update channels set private=true where id=1", "update messages set channel_id=1 where id=2"], "writes": [], "shape": "RSK", "origin": "variant", "flags": [], "note": ""}
create schema case_046;
grant usage on schema case_046 to anon, authenticated, service_role;
set search_path = case_046, public;
create table channels(id int primary key, private boolean);
create table channel_users(channel_id int, user_id uuid, primary key(channel_id,user_id));
create table messages(id int primary key, channel_id int);
create table attachments(id int primary key, message_id int);
insert into channels values (1,false),(2,true);
insert into channel_users values (2,'a11ce000-0000-4000-8000-000000000001');
insert into messages values (1,1),(2,2);
insert into attachments values (1,1),(2,2),(3,2);
alter table channels enable row level security;
alter table channel_users enable row level security;
alter table messages enable row level security;
alter table attachments enable row level security;
create policy p1 on channels for select using (not private or exists (select 1 from channel_users cu where cu.channel_id = channels.id and cu.user_id = auth.uid()));
create policy p2 on channel_users for select using (user_id = auth.uid());
create policy p3 on messages for select using (exists (select 1 from channels c where c.id = messages.channel_id));
create policy p4 on attachments for select using (exists (select 1 from messages m where m.id = attachments.message_id));
grant select, insert, update, delete on all tables in schema case_046 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_047", "class": "scalar_sub", "level": "L3", "source": "powersync-ja/powersync-js paragraphs: scalar boolean subquery on the parent", "entities": [{"table": "notes", "key": ["id"]}, {"table": "paragraphs", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update notes set shared=true where id=3", "update notes set owner_id='b0b00000-0000-4000-8000-000000000002' where id=1"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_047;
grant usage on schema case_047 to anon, authenticated, service_role;
set search_path = case_047, public;
create table notes(id int primary key, owner_id text, shared boolean);
create table paragraphs(id int primary key, note_id int);
insert into notes values (1,'a11ce000-0000-4000-8000-000000000001',false),(2,'b0b00000-0000-4000-8000-000000000002',true),(3,'b0b00000-0000-4000-8000-000000000002',null);
insert into paragraphs values (1,1),(2,2),(3,3),(4,null);
alter table notes enable row level security;
alter table paragraphs enable row level security;
create policy p1 on notes for select to authenticated using ((select auth.jwt() ->> 'sub' = notes.owner_id));
create policy p2 on notes for select to authenticated using (shared = true);
create policy p3 on paragraphs for select to authenticated using ((select notes.owner_id = auth.jwt() ->> 'sub' from notes where notes.id = paragraphs.note_id));
create policy p4 on paragraphs for select to authenticated using ((select notes.shared from notes where notes.id = paragraphs.note_id));
grant select, insert, update, delete on all tables in schema case_047 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_048", "class": "scalar_sub", "level": "L3", "source": "Zeerakz/noteful-supabase-clone comments: function over a scalar subquery with a join", "entities": [{"table": "comments", "key": ["id"]}, {"table": "ws_members", "key": ["ws", "user_id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update blocks set page_id=1 where id=2", "insert into ws_members values (2,'a11ce000-0000-4000-8000-000000000001')"], "writes": [], "shape": "RSKF", "origin": "repo", "flags": [], "note": ""}
create schema case_048;
grant usage on schema case_048 to anon, authenticated, service_role;
set search_path = case_048, public;
create table pages(id int primary key, ws int);
create table blocks(id int primary key, page_id int);
create table comments(id int primary key, block_id int);
create table ws_members(ws int, user_id uuid, primary key(ws,user_id));
insert into pages values (1,1),(2,2);
insert into blocks values (1,1),(2,2);
insert into comments values (1,1),(2,2),(3,9);
insert into ws_members values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'b0b00000-0000-4000-8000-000000000002');
create function case_048.has_ws(w int, who uuid) returns boolean language sql stable security definer set search_path = '' as $$ select exists (select 1 from case_048.ws_members m where m.ws = w and m.user_id = who) $$;
alter table comments enable row level security;
alter table ws_members enable row level security;
create policy p1 on comments for select using (case_048.has_ws((select p.ws from pages p join blocks b on b.page_id = p.id where b.id = comments.block_id), auth.uid()));
grant select, insert, update, delete on all tables in schema case_048 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_049", "class": "admin_lookup", "level": "L2", "source": "shodbyed/supabase-learning-hub; booktifi: exists (select 1 from users where id = uid and role = ..)", "entities": [{"table": "users", "key": ["id"]}, {"table": "audit", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update users set role='owner' where id='b0b00000-0000-4000-8000-000000000002'", "update users set role='user' where id='a11ce000-0000-4000-8000-000000000001'", "insert into audit values (3,'z')"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_049;
grant usage on schema case_049 to anon, authenticated, service_role;
set search_path = case_049, public;
create table users(id uuid primary key, role text);
create table audit(id int primary key, what text);
insert into users values ('a11ce000-0000-4000-8000-000000000001','admin'),('b0b00000-0000-4000-8000-000000000002','user');
insert into audit values (1,'x'),(2,'y');
alter table users enable row level security;
alter table audit enable row level security;
create policy p1 on users for select using (auth.uid() = id);
create policy p2 on audit for select using (exists (select 1 from users where users.id = auth.uid() and users.role in ('admin','owner')));
grant select, insert, update, delete on all tables in schema case_049 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_050", "class": "admin_lookup", "level": "L2", "source": "Senseiglobal/supabase-rls-test: uid in (select user_id from admin_users), admin_users protected by itself", "entities": [{"table": "admin_users", "key": ["user_id"]}, {"table": "reports", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["insert into admin_users values ('b0b00000-0000-4000-8000-000000000002')", "delete from admin_users where user_id='a11ce000-0000-4000-8000-000000000001'"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_050;
grant usage on schema case_050 to anon, authenticated, service_role;
set search_path = case_050, public;
create table admin_users(user_id uuid primary key);
create table reports(id int primary key, owner uuid);
insert into admin_users values ('a11ce000-0000-4000-8000-000000000001');
insert into reports values (1,'b0b00000-0000-4000-8000-000000000002'),(2,'ca401000-0000-4000-8000-000000000003');
alter table admin_users enable row level security;
alter table reports enable row level security;
create policy p1 on admin_users for select using (user_id = auth.uid());
create policy p2 on reports for select using (auth.uid() in (select user_id from admin_users) or owner = auth.uid());
grant select, insert, update, delete on all tables in schema case_050 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_051", "class": "admin_lookup", "level": "L2", "source": "seohsirk/next-supabase-ai-template subscriptions: feature switch in a config table", "entities": [{"table": "config", "key": ["id"]}, {"table": "members", "key": ["user_id", "account"]}, {"table": "subs", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update config set team_billing=false", "update config set team_billing=true", "delete from config"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": "one config row switches visibility for all users at once"}
create schema case_051;
grant usage on schema case_051 to anon, authenticated, service_role;
set search_path = case_051, public;
create table config(id int primary key, team_billing boolean);
create table members(user_id uuid, account uuid, primary key(user_id,account));
create table subs(id int primary key, account uuid);
insert into config values (1,true);
insert into members values ('a11ce000-0000-4000-8000-000000000001','75e7a8db-5975-514b-8990-a3367c410a2a'),('b0b00000-0000-4000-8000-000000000002','28763f2f-d82f-54cf-aa8e-d389524686a1');
insert into subs values (1,'75e7a8db-5975-514b-8990-a3367c410a2a'),(2,'28763f2f-d82f-54cf-aa8e-d389524686a1');
alter table config enable row level security;
alter table members enable row level security;
alter table subs enable row level security;
create policy p1 on config for select to authenticated using (true);
create policy p2 on members for select using (user_id = auth.uid());
create policy p3 on subs for select to authenticated using (account in (select account from members where user_id = auth.uid()) and (select team_billing from config limit 1));
grant select, insert, update, delete on all tables in schema case_051 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_052", "class": "fn_sql_row", "level": "L4", "source": "usebasejump/basejump accounts: has_role_on_account(id)", "entities": [{"table": "account_user", "key": ["user_id", "account_id"]}, {"table": "accounts", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["insert into account_user values ('b0b00000-0000-4000-8000-000000000002','124f4298-fa2e-58ad-8de8-1de4adf41795','member')", "delete from account_user where account_id='28763f2f-d82f-54cf-aa8e-d389524686a1' and user_id='a11ce000-0000-4000-8000-000000000001'"], "writes": [{"user": "alice", "sql": "update accounts set name='z' where id='75e7a8db-5975-514b-8990-a3367c410a2a'"}, {"user": "alice", "sql": "update accounts set name='z' where id='28763f2f-d82f-54cf-aa8e-d389524686a1'"}], "shape": "RSKF", "origin": "repo", "flags": [], "note": "default argument; security definer reads past the RLS of account_user"}
create schema case_052;
grant usage on schema case_052 to anon, authenticated, service_role;
set search_path = case_052, public;
create table account_user(user_id uuid, account_id uuid, account_role text not null, primary key(user_id, account_id));
create table accounts(id uuid primary key, name text, primary_owner uuid);
insert into account_user values ('a11ce000-0000-4000-8000-000000000001','75e7a8db-5975-514b-8990-a3367c410a2a','owner'),('a11ce000-0000-4000-8000-000000000001','28763f2f-d82f-54cf-aa8e-d389524686a1','member'),('b0b00000-0000-4000-8000-000000000002','28763f2f-d82f-54cf-aa8e-d389524686a1','owner');
insert into accounts values ('75e7a8db-5975-514b-8990-a3367c410a2a','a','a11ce000-0000-4000-8000-000000000001'),('28763f2f-d82f-54cf-aa8e-d389524686a1','b','b0b00000-0000-4000-8000-000000000002'),('124f4298-fa2e-58ad-8de8-1de4adf41795','c','ca401000-0000-4000-8000-000000000003');
create function case_052.has_role_on_account(account uuid, wanted text default null) returns boolean language sql stable security definer set search_path = '' as $$ select exists (select 1 from case_052.account_user au where au.user_id = auth.uid() and au.account_id = account and (au.account_role = wanted or wanted is null)) $$;
alter table account_user enable row level security;
alter table accounts enable row level security;
create policy p1 on accounts for select to authenticated using (case_052.has_role_on_account(id) = true);
create policy p2 on accounts for select to authenticated using (primary_owner = auth.uid());
create policy p3 on accounts for update to authenticated using (case_052.has_role_on_account(id, 'owner') = true);
create policy p4 on account_user for select to authenticated using (case_052.has_role_on_account(account_id));
grant select, insert, update, delete on all tables in schema case_052 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_053", "class": "fn_sql_row", "level": "L4", "source": "point-source/supabase-tenant-rbac / BhodiSea: has_any_role(group, array[..])", "entities": [{"table": "account_user", "key": ["user_id", "account_id"]}, {"table": "reports", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update account_user set account_role='admin' where user_id='a11ce000-0000-4000-8000-000000000001' and account_id='28763f2f-d82f-54cf-aa8e-d389524686a1'"], "writes": [], "shape": "RSKF", "origin": "repo", "flags": [], "note": ""}
create schema case_053;
grant usage on schema case_053 to anon, authenticated, service_role;
set search_path = case_053, public;
create table account_user(user_id uuid, account_id uuid, account_role text not null, primary key(user_id, account_id));
create table reports(id int primary key, account_id uuid);
insert into account_user values ('a11ce000-0000-4000-8000-000000000001','75e7a8db-5975-514b-8990-a3367c410a2a','owner'),('a11ce000-0000-4000-8000-000000000001','28763f2f-d82f-54cf-aa8e-d389524686a1','member'),('b0b00000-0000-4000-8000-000000000002','28763f2f-d82f-54cf-aa8e-d389524686a1','owner');
insert into reports values (1,'75e7a8db-5975-514b-8990-a3367c410a2a'),(2,'28763f2f-d82f-54cf-aa8e-d389524686a1');
create function case_053.has_any_role(acc uuid, roles text[]) returns boolean language sql stable security definer set search_path = '' as $$ select exists (select 1 from case_053.account_user x where x.user_id = auth.uid() and x.account_id = acc and x.account_role = any(roles)) $$;
alter table account_user enable row level security;
alter table reports enable row level security;
create policy p1 on reports for select to authenticated using (case_053.has_any_role(account_id, array['owner','admin']));
grant select, insert, update, delete on all tables in schema case_053 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_054", "class": "fn_sql_row", "level": "L4", "source": "mckaywrigley/chatbot-ui storage: non_private_file_exists(path)", "entities": [{"table": "files", "key": ["id"]}, {"table": "objects", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update files set sharing='public' where id=2", "update files set sharing='private' where id=1"], "writes": [], "shape": "RSKF", "origin": "repo", "flags": ["uniform"], "note": ""}
create schema case_054;
grant usage on schema case_054 to anon, authenticated, service_role;
set search_path = case_054, public;
create table files(id int primary key, file_path text, sharing text);
create table objects(id int primary key, bucket_id text, name text);
insert into files values (1,'a/1.pdf','public'),(2,'b/2.pdf','private');
insert into objects values (1,'files','a/1.pdf'),(2,'files','b/2.pdf'),(3,'other','a/1.pdf');
create function case_054.non_private_file_exists(p_name text) returns boolean language sql stable security definer set search_path = '' as $$ select exists (select 1 from case_054.files where file_path = p_name and sharing <> 'private') $$;
alter table files enable row level security;
alter table objects enable row level security;
create policy p1 on objects for select to public using (bucket_id = 'files' and case_054.non_private_file_exists(name));
grant select, insert, update, delete on all tables in schema case_054 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_055", "class": "fn_set", "level": "L4", "source": "graphile/starter organizations: id in (select current_user_member_organization_ids())", "entities": [{"table": "organization_memberships", "key": ["organization_id", "user_id"]}, {"table": "organization_invitations", "key": ["organization_id", "user_id"]}, {"table": "organizations", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["delete from organization_invitations", "insert into organization_memberships values ('90ee04e1-d72a-5b09-b253-3b2fe5ac732a','a11ce000-0000-4000-8000-000000000001',false)"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": "memberships readable by all co-members: recursion avoided by the definer function"}
create schema case_055;
grant usage on schema case_055 to anon, authenticated, service_role;
set search_path = case_055, public;
create table organization_memberships(organization_id uuid, user_id uuid, is_owner boolean default false, primary key(organization_id,user_id));
create table organization_invitations(organization_id uuid, user_id uuid, primary key(organization_id,user_id));
create table organizations(id uuid primary key, name text);
insert into organizations values ('32d5defd-70db-584d-a5f3-160ecb0e66fd','a'),('c20a68f4-ba7a-58dc-b8be-c82e29f6fdfe','b'),('90ee04e1-d72a-5b09-b253-3b2fe5ac732a','c');
insert into organization_memberships values ('32d5defd-70db-584d-a5f3-160ecb0e66fd','a11ce000-0000-4000-8000-000000000001',true),('c20a68f4-ba7a-58dc-b8be-c82e29f6fdfe','b0b00000-0000-4000-8000-000000000002',true);
insert into organization_invitations values ('c20a68f4-ba7a-58dc-b8be-c82e29f6fdfe','a11ce000-0000-4000-8000-000000000001');
create function case_055.my_orgs() returns setof uuid language sql stable security definer set search_path = '' as $$ select organization_id from case_055.organization_memberships where user_id = auth.uid() $$;
create function case_055.my_invites() returns setof uuid language sql stable security definer set search_path = '' as $$ select organization_id from case_055.organization_invitations where user_id = auth.uid() $$;
alter table organization_memberships enable row level security;
alter table organization_invitations enable row level security;
alter table organizations enable row level security;
create policy p1 on organizations for select using (id in (select case_055.my_orgs()));
create policy p2 on organizations for select using (id in (select case_055.my_invites()));
create policy p3 on organization_memberships for select using (organization_id in (select case_055.my_orgs()));
grant select, insert, update, delete on all tables in schema case_055 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_056", "class": "fn_set", "level": "L4", "source": "crbnos/carbon: companyId = any((select companies_with_permission(..))::text[]) and array overlap of groups", "entities": [{"table": "grants", "key": ["user_id", "permission", "company"]}, {"table": "groups", "key": ["user_id", "grp"]}, {"table": "document", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["insert into groups values ('a11ce000-0000-4000-8000-000000000001','g3')", "delete from grants where user_id='b0b00000-0000-4000-8000-000000000002' and company='c1'", "update document set read_groups='{g1,g2}' where id=4"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_056;
grant usage on schema case_056 to anon, authenticated, service_role;
set search_path = case_056, public;
create table grants(user_id uuid, permission text, company text, primary key(user_id,permission,company));
create table groups(user_id uuid, grp text, primary key(user_id,grp));
create table document(id int primary key, company text, read_groups text[]);
insert into grants values ('a11ce000-0000-4000-8000-000000000001','documents_view','c1'),('b0b00000-0000-4000-8000-000000000002','documents_view','c2'),('b0b00000-0000-4000-8000-000000000002','documents_view','c1');
insert into groups values ('a11ce000-0000-4000-8000-000000000001','g1'),('b0b00000-0000-4000-8000-000000000002','g2');
insert into document values (1,'c1','{g1}'),(2,'c1','{g2,g3}'),(3,'c2','{g2}'),(4,'c1','{}'),(5,'c1',null);
create function case_056.companies_with(p text) returns text[] language sql stable security definer set search_path = '' as $$ select array_agg(company) from case_056.grants where user_id = auth.uid() and permission = p $$;
create function case_056.groups_of(w uuid) returns text[] language sql stable security definer set search_path = '' as $$ select coalesce(array_agg(grp), '{}') from case_056.groups where user_id = w $$;
alter table grants enable row level security;
alter table groups enable row level security;
alter table document enable row level security;
create policy p1 on document for select using (company = any ((select case_056.companies_with('documents_view'))::text[]) and (case_056.groups_of((select auth.uid())) && read_groups) = true);
grant select, insert, update, delete on all tables in schema case_056 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_057", "class": "fn_session", "level": "L4", "source": "taysacunha/sig-execut-supabase user_roles, brokers", "entities": [{"table": "user_roles", "key": ["user_id", "role"]}, {"table": "logs", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["insert into user_roles values ('ca401000-0000-4000-8000-000000000003','admin')", "delete from user_roles where user_id='a11ce000-0000-4000-8000-000000000001'"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": "user_roles is protected by a function that reads user_roles"}
create schema case_057;
grant usage on schema case_057 to anon, authenticated, service_role;
set search_path = case_057, public;
create type case_057.app_role as enum ('admin','moderator','user');
create table user_roles(user_id uuid, role case_057.app_role, primary key(user_id,role));
create table logs(id int primary key, owner uuid);
insert into user_roles values ('a11ce000-0000-4000-8000-000000000001','admin'),('b0b00000-0000-4000-8000-000000000002','user'),('b0b00000-0000-4000-8000-000000000002','moderator');
insert into logs values (1,'b0b00000-0000-4000-8000-000000000002'),(2,'ca401000-0000-4000-8000-000000000003');
create function case_057.has_role(_user uuid, _role case_057.app_role) returns boolean language sql stable security definer set search_path = '' as $$ select exists (select 1 from case_057.user_roles where user_id = _user and role = _role) $$;
alter table user_roles enable row level security;
alter table logs enable row level security;
create policy p1 on user_roles for select to authenticated using (case_057.has_role(auth.uid(), 'admin'));
create policy p2 on logs for select to authenticated using (owner = auth.uid() or case_057.has_role(auth.uid(), 'admin'));
grant select, insert, update, delete on all tables in schema case_057 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_058", "class": "fn_session", "level": "L4", "source": "supabase/evals + rlstest_is_admin wrapped in select", "entities": [{"table": "staff", "key": ["user_id"]}, {"table": "rlstest", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["delete from staff", "insert into staff values ('b0b00000-0000-4000-8000-000000000002')"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_058;
grant usage on schema case_058 to anon, authenticated, service_role;
set search_path = case_058, public;
create table staff(user_id uuid primary key);
create table rlstest(id int primary key, user_id uuid);
insert into staff values ('a11ce000-0000-4000-8000-000000000001');
insert into rlstest values (1,'b0b00000-0000-4000-8000-000000000002'),(2,'a11ce000-0000-4000-8000-000000000001'),(3,'ca401000-0000-4000-8000-000000000003');
create function case_058.is_admin() returns boolean language sql stable security definer set search_path = '' as $$ select exists (select 1 from case_058.staff where user_id = auth.uid()) $$;
alter table staff enable row level security;
alter table rlstest enable row level security;
create policy p1 on rlstest to authenticated using ((select case_058.is_admin()) or (select auth.uid()) = user_id);
grant select, insert, update, delete on all tables in schema case_058 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_059", "class": "fn_session", "level": "L4", "source": "public index file 57713797107 (current_tenant_id, is_hr_admin)", "entities": [{"table": "employees", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false, "app_metadata": {"tenant_id": "75e7a8db-5975-514b-8990-a3367c410a2a"}}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false, "app_metadata": {"tenant_id": "75e7a8db-5975-514b-8990-a3367c410a2a"}}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false, "app_metadata": {"tenant_id": "28763f2f-d82f-54cf-aa8e-d389524686a1"}}}], "moves": ["update employees set tenant='28763f2f-d82f-54cf-aa8e-d389524686a1' where id=2", "update employees set user_id='b0b00000-0000-4000-8000-000000000002' where id=1"], "writes": [], "shape": "RSK", "origin": "index", "flags": [], "note": ""}
create schema case_059;
grant usage on schema case_059 to anon, authenticated, service_role;
set search_path = case_059, public;
create table employees(id int primary key, tenant uuid, user_id uuid);
insert into employees values (1,'75e7a8db-5975-514b-8990-a3367c410a2a','a11ce000-0000-4000-8000-000000000001'),(2,'75e7a8db-5975-514b-8990-a3367c410a2a','b0b00000-0000-4000-8000-000000000002'),(3,'28763f2f-d82f-54cf-aa8e-d389524686a1','ca401000-0000-4000-8000-000000000003');
create function case_059.current_tenant() returns uuid language sql stable as $$ select nullif(auth.jwt() -> 'app_metadata' ->> 'tenant_id', '')::uuid $$;
create function case_059.is_hr() returns boolean language sql stable security definer set search_path = '' as $$ select exists (select 1 from case_059.employees e where e.user_id = auth.uid() and e.id = 1) $$;
alter table employees enable row level security;
create policy p1 on employees for select using (tenant = case_059.current_tenant() and (user_id = auth.uid() or case_059.is_hr()));
grant select, insert, update, delete on all tables in schema case_059 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_060", "class": "fn_plpgsql", "level": "L4", "source": "plpgsql with a single return exists (Zeerakz/noteful-supabase-clone)", "entities": [{"table": "account_user", "key": ["user_id", "account_id"]}, {"table": "pages", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["delete from account_user where user_id='a11ce000-0000-4000-8000-000000000001' and account_id='28763f2f-d82f-54cf-aa8e-d389524686a1'", "update pages set account_id='28763f2f-d82f-54cf-aa8e-d389524686a1' where id=3"], "writes": [], "shape": "RSKF", "origin": "repo", "flags": [], "note": ""}
create schema case_060;
grant usage on schema case_060 to anon, authenticated, service_role;
set search_path = case_060, public;
create table account_user(user_id uuid, account_id uuid, account_role text not null, primary key(user_id, account_id));
create table pages(id int primary key, account_id uuid);
insert into account_user values ('a11ce000-0000-4000-8000-000000000001','75e7a8db-5975-514b-8990-a3367c410a2a','owner'),('a11ce000-0000-4000-8000-000000000001','28763f2f-d82f-54cf-aa8e-d389524686a1','member'),('b0b00000-0000-4000-8000-000000000002','28763f2f-d82f-54cf-aa8e-d389524686a1','owner');
insert into pages values (1,'75e7a8db-5975-514b-8990-a3367c410a2a'),(2,'28763f2f-d82f-54cf-aa8e-d389524686a1'),(3,'124f4298-fa2e-58ad-8de8-1de4adf41795');
create function case_060.can_see(a uuid, w uuid) returns boolean language plpgsql stable security definer set search_path = '' as $$ begin return exists (select 1 from case_060.account_user au where au.account_id = a and au.user_id = w); end $$;
alter table account_user enable row level security;
alter table pages enable row level security;
create policy p1 on pages for select using (case_060.can_see(account_id, auth.uid()));
grant select, insert, update, delete on all tables in schema case_060 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_061", "class": "fn_plpgsql", "level": "L4", "source": "supabase/supabase examples/slack-clone/nextjs-slack-clone/full-schema.sql authorize()", "entities": [{"table": "role_permissions", "key": ["role", "permission"]}, {"table": "messages", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false, "user_role": "moderator"}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false, "user_role": "admin"}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["insert into role_permissions values ('moderator','messages.read')", "delete from role_permissions where role='admin'"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_061;
grant usage on schema case_061 to anon, authenticated, service_role;
set search_path = case_061, public;
create table role_permissions(role text, permission text, primary key(role,permission));
create table messages(id int primary key, user_id uuid);
insert into role_permissions values ('admin','messages.read'),('moderator','messages.delete');
insert into messages values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'b0b00000-0000-4000-8000-000000000002');
create function case_061.authorize(p text) returns boolean language plpgsql stable security definer set search_path = '' as $$ declare n int; begin select count(*) into n from case_061.role_permissions rp where rp.permission = p and rp.role = (auth.jwt() ->> 'user_role'); return n > 0; end $$;
alter table role_permissions enable row level security;
alter table messages enable row level security;
create policy p1 on messages for select using (auth.uid() = user_id);
create policy p2 on messages for select using (case_061.authorize('messages.read'));
grant select, insert, update, delete on all tables in schema case_061 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_062", "class": "fn_plpgsql", "level": "L6", "source": "SUPABASE-V1/edupro current_preschool_id()", "entities": [{"table": "profiles", "key": ["id"]}, {"table": "homework", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false, "app_metadata": {"school": "not-a-uuid"}}}, {"name": "dave", "role": "authenticated", "claims": {"sub": "da7e0000-0000-4000-8000-000000000004", "role": "authenticated", "email": "dave@acme.test", "aal": "aal1", "is_anonymous": false, "app_metadata": {"school": "34d164f0-36e0-5d08-afae-cfd04b8b58e0"}}}], "moves": ["update profiles set active=true where id='b0b00000-0000-4000-8000-000000000002'", "update profiles set school='13fd89dd-7cee-5702-9861-cdd1a9bddda1' where id='ca401000-0000-4000-8000-000000000003'", "update homework set school='13fd89dd-7cee-5702-9861-cdd1a9bddda1' where id=2"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": "no row argument: one call per user answers for all rows; depends on profiles"}
create schema case_062;
grant usage on schema case_062 to anon, authenticated, service_role;
set search_path = case_062, public;
create table profiles(id uuid primary key, school uuid, active boolean default true);
create table homework(id int primary key, school uuid);
insert into profiles values ('a11ce000-0000-4000-8000-000000000001','13fd89dd-7cee-5702-9861-cdd1a9bddda1',true),('b0b00000-0000-4000-8000-000000000002','34d164f0-36e0-5d08-afae-cfd04b8b58e0',false),('ca401000-0000-4000-8000-000000000003','34d164f0-36e0-5d08-afae-cfd04b8b58e0',true);
insert into homework values (1,'13fd89dd-7cee-5702-9861-cdd1a9bddda1'),(2,'34d164f0-36e0-5d08-afae-cfd04b8b58e0');
create function case_062.current_school() returns uuid language plpgsql stable security definer set search_path = '' as $$ declare v uuid; begin begin v := nullif(auth.jwt() -> 'app_metadata' ->> 'school', '')::uuid; exception when others then v := null; end; if v is not null then return v; end if; select p.school into v from case_062.profiles p where p.id = auth.uid() and p.active; return v; end $$;
alter table profiles enable row level security;
alter table homework enable row level security;
create policy p1 on homework for select using (school = case_062.current_school());
grant select, insert, update, delete on all tables in schema case_062 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_063", "class": "fn_complex", "level": "L9", "source": "point-source/supabase-tenant-rbac has_permission: plpgsql, row argument, claims refreshed from a table, loop", "entities": [{"table": "user_claims", "key": ["user_id"]}, {"table": "sensitive", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update user_claims set claims=jsonb_build_object('73ae7eb0-6dbd-549b-a398-1890e28d5e52'::text,jsonb_build_object('permissions',jsonb_build_array('data.read'))) where user_id='a11ce000-0000-4000-8000-000000000001'", "delete from user_claims where user_id='b0b00000-0000-4000-8000-000000000002'"], "writes": [], "shape": "RSKF", "origin": "repo", "flags": [], "note": ""}
create schema case_063;
grant usage on schema case_063 to anon, authenticated, service_role;
set search_path = case_063, public;
create table user_claims(user_id uuid primary key, claims jsonb);
create table sensitive(id int primary key, owned_by uuid);
insert into user_claims values ('a11ce000-0000-4000-8000-000000000001',jsonb_build_object('7b50ecf8-5afa-57ae-9319-268644fec6db'::text,jsonb_build_object('permissions',jsonb_build_array('data.read','data.write')))),('b0b00000-0000-4000-8000-000000000002',jsonb_build_object('73ae7eb0-6dbd-549b-a398-1890e28d5e52'::text,jsonb_build_object('permissions',jsonb_build_array('*'))));
insert into sensitive values (1,'7b50ecf8-5afa-57ae-9319-268644fec6db'),(2,'73ae7eb0-6dbd-549b-a398-1890e28d5e52');
create function case_063.has_permission(g uuid, p text) returns boolean language plpgsql stable security definer set search_path = '' as $$ declare c jsonb; x text; begin if auth.role() <> 'authenticated' then return false; end if; select claims into c from case_063.user_claims where user_id = auth.uid(); if c is null or not (c ? g::text) then return false; end if; for x in select jsonb_array_elements_text(c -> g::text -> 'permissions') loop if x = '*' or x = p then return true; end if; end loop; return false; end $$;
alter table user_claims enable row level security;
alter table sensitive enable row level security;
create policy p1 on sensitive for select to authenticated using (case_063.has_permission(owned_by, 'data.read'));
grant select, insert, update, delete on all tables in schema case_063 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_064", "class": "fn_complex", "level": "L9", "source": "maevsi/sqitch event: whole-row function policy", "entities": [{"table": "blocks", "key": ["a", "b"]}, {"table": "guests", "key": ["event_id", "user_id"]}, {"table": "event", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["delete from guests where event_id=1", "insert into blocks values ('b0b00000-0000-4000-8000-000000000002','a11ce000-0000-4000-8000-000000000001')", "update event set visibility='public' where id=2", "delete from blocks where a='a11ce000-0000-4000-8000-000000000001'"], "writes": [], "shape": "RSKF", "origin": "repo", "flags": [], "note": "row passed as a composite; correlated count; two-sided block list"}
create schema case_064;
grant usage on schema case_064 to anon, authenticated, service_role;
set search_path = case_064, public;
create table blocks(a uuid, b uuid, primary key(a,b));
create table guests(event_id int, user_id uuid, primary key(event_id,user_id));
create table event(id int primary key, visibility text, created_by uuid, guest_max int);
insert into event values (1,'public','a11ce000-0000-4000-8000-000000000001',1),(2,'private','a11ce000-0000-4000-8000-000000000001',null),(3,'public','b0b00000-0000-4000-8000-000000000002',null);
insert into guests values (1,'ca401000-0000-4000-8000-000000000003'),(2,'b0b00000-0000-4000-8000-000000000002');
insert into blocks values ('a11ce000-0000-4000-8000-000000000001','ca401000-0000-4000-8000-000000000003');
create function case_064.event_visible(e case_064.event) returns boolean language sql stable security definer set search_path = '' as $$ select e.created_by = auth.uid() or (e.visibility = 'public' and (e.guest_max is null or e.guest_max > (select count(*) from case_064.guests g where g.event_id = e.id)) and not exists (select 1 from case_064.blocks b where (b.a = auth.uid() and b.b = e.created_by) or (b.b = auth.uid() and b.a = e.created_by))) or exists (select 1 from case_064.guests g where g.event_id = e.id and g.user_id = auth.uid()) $$;
alter table blocks enable row level security;
alter table guests enable row level security;
alter table event enable row level security;
create policy p1 on event for select using (case_064.event_visible(event.*));
grant select, insert, update, delete on all tables in schema case_064 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_065", "class": "fn_complex", "level": "L5", "source": "maevsi/sqitch attendance: exists over unnest of an array returning function, or = any(fn())", "entities": [{"table": "claims", "key": ["user_id", "attendance_id"]}, {"table": "attendance", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["insert into claims values ('b0b00000-0000-4000-8000-000000000002',11)", "delete from claims where user_id='a11ce000-0000-4000-8000-000000000001'"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_065;
grant usage on schema case_065 to anon, authenticated, service_role;
set search_path = case_065, public;
create table claims(user_id uuid, attendance_id int, primary key(user_id,attendance_id));
create table attendance(id int primary key, guest int);
insert into claims values ('a11ce000-0000-4000-8000-000000000001',1),('b0b00000-0000-4000-8000-000000000002',3);
insert into attendance values (1,10),(2,11),(3,12);
create function case_065.claim_array() returns int[] language sql stable security definer set search_path = '' as $$ select coalesce(array_agg(attendance_id), '{}') from case_065.claims where user_id = auth.uid() $$;
alter table claims enable row level security;
alter table attendance enable row level security;
create policy p1 on attendance for select using (exists (select 1 from unnest(case_065.claim_array()) as ac where ac = attendance.id) or guest = any (case_065.claim_array()));
grant select, insert, update, delete on all tables in schema case_065 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_066", "class": "recursion", "level": "L4", "source": "point-source/supabase-tenant-rbac members, graphile/starter organization_memberships", "entities": [{"table": "members", "key": ["user_id", "team_id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "dave", "role": "authenticated", "claims": {"sub": "da7e0000-0000-4000-8000-000000000004", "role": "authenticated", "email": "dave@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["insert into members values ('a11ce000-0000-4000-8000-000000000001',2)", "delete from members where user_id='b0b00000-0000-4000-8000-000000000002' and team_id=1"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": "a change of one membership row changes which other membership rows are seen"}
create schema case_066;
grant usage on schema case_066 to anon, authenticated, service_role;
set search_path = case_066, public;
create table members(user_id uuid, team_id int, primary key(user_id,team_id));
insert into members values ('a11ce000-0000-4000-8000-000000000001',1),('b0b00000-0000-4000-8000-000000000002',1),('b0b00000-0000-4000-8000-000000000002',2),('ca401000-0000-4000-8000-000000000003',2);
create function case_066.my_teams() returns setof int language sql stable security definer set search_path = '' as $$ select team_id from case_066.members where user_id = auth.uid() $$;
alter table members enable row level security;
create policy p1 on members for select using (team_id in (select case_066.my_teams()));
grant select, insert, update, delete on all tables in schema case_066 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_067", "class": "recursion", "level": "L3", "source": "groups and members that name each other (powersync-ja/powersync-js memberships and groups are close)", "entities": [{"table": "groups", "key": ["id"]}, {"table": "group_members", "key": ["group_id", "user_id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": [], "writes": [], "shape": "RSK", "origin": "variant", "flags": ["error", "nomove"], "note": ""}
create schema case_067;
grant usage on schema case_067 to anon, authenticated, service_role;
set search_path = case_067, public;
create table groups(id int primary key, owner uuid);
create table group_members(group_id int, user_id uuid, primary key(group_id,user_id));
insert into groups values (1,'a11ce000-0000-4000-8000-000000000001');
insert into group_members values (1,'b0b00000-0000-4000-8000-000000000002');
alter table groups enable row level security;
alter table group_members enable row level security;
create policy p1 on groups for select using (owner = auth.uid() or exists (select 1 from group_members gm where gm.group_id = groups.id and gm.user_id = auth.uid()));
create policy p2 on group_members for select using (user_id = auth.uid() or exists (select 1 from groups g where g.id = group_members.group_id and g.owner = auth.uid()));
grant select, insert, update, delete on all tables in schema case_067 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_068", "class": "storage_path", "level": "L1", "source": "mckaywrigley/chatbot-ui: first folder is the user id", "entities": [{"table": "objects", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update objects set name='b0b00000-0000-4000-8000-000000000002'||'/moved.png' where id=1", "update objects set bucket_id='files' where id=3"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_068;
grant usage on schema case_068 to anon, authenticated, service_role;
set search_path = case_068, public;
create table objects(id int primary key, bucket_id text, name text, owner uuid, metadata jsonb);
insert into objects values (1,'files','a11ce000-0000-4000-8000-000000000001'||'/a.png','a11ce000-0000-4000-8000-000000000001',null),(2,'files','b0b00000-0000-4000-8000-000000000002'||'/x/b.png','b0b00000-0000-4000-8000-000000000002',null),(3,'avatars','a11ce000-0000-4000-8000-000000000001'||'/c.png','a11ce000-0000-4000-8000-000000000001',null),(4,'files','root.png',null,null);
alter table objects enable row level security;
create policy p1 on objects for select to authenticated using (bucket_id = 'files' and (storage.foldername(name))[1] = auth.uid()::text);
create policy p2 on objects for select using (bucket_id = 'avatars');
grant select, insert, update, delete on all tables in schema case_068 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_069", "class": "storage_path", "level": "L1", "source": "supabase/storage tests: folder literal plus role", "entities": [{"table": "objects", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update objects set name='public/c.png' where id=4", "update objects set owner='b0b00000-0000-4000-8000-000000000002' where id=3"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_069;
grant usage on schema case_069 to anon, authenticated, service_role;
set search_path = case_069, public;
create table objects(id int primary key, bucket_id text, name text, owner uuid, metadata jsonb);
insert into objects values (1,'bucket2','public/a.png',null,null),(2,'bucket2','authenticated/b.png',null,null),(3,'bucket2','only_owner/c.png','a11ce000-0000-4000-8000-000000000001',null),(4,'bucket2','c.png',null,null);
alter table objects enable row level security;
create policy p1 on objects for all using (bucket_id='bucket2' and (storage.foldername(name))[1] = 'public');
create policy p2 on objects for all using (bucket_id='bucket2' and (storage.foldername(name))[1] = 'authenticated' and auth.role() = 'authenticated');
create policy p3 on objects for all using (bucket_id='bucket2' and (storage.foldername(name))[1] = 'only_owner' and owner = auth.uid());
grant select, insert, update, delete on all tables in schema case_069 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_070", "class": "storage_path", "level": "L3", "source": "7Spade/ng-alain-gighub-supabase storage.objects (name LIKE key || /%)", "entities": [{"table": "objects", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update blueprints set owner_id='a11ce000-0000-4000-8000-000000000001' where id=11", "update objects set name='1/d.png' where id=3"], "writes": [], "shape": "mixed", "origin": "repo", "flags": [], "note": "correlated LIKE, no equality"}
create schema case_070;
grant usage on schema case_070 to anon, authenticated, service_role;
set search_path = case_070, public;
create table objects(id int primary key, bucket_id text, name text, owner uuid, metadata jsonb);
create table blueprints(id int primary key, owner_id uuid);
insert into blueprints values (1,'a11ce000-0000-4000-8000-000000000001'),(11,'b0b00000-0000-4000-8000-000000000002');
insert into objects values (1,'images','1/a.png',null,null),(2,'images','11/b.png',null,null),(3,'images','12/c.png',null,null);
alter table objects enable row level security;
create policy p1 on objects for select using (bucket_id = 'images' and exists (select 1 from blueprints b where objects.name like b.id::text || '/%' and b.owner_id = auth.uid()));
grant select, insert, update, delete on all tables in schema case_070 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_071", "class": "time", "level": "L7", "source": "SUPABASE-V1/edupro job_postings: not expired", "entities": [{"table": "ads", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update ads set expires_at='2001-01-01Z' where id=1", "update ads set expires_at='2099-01-01Z' where id=2"], "writes": [], "shape": "RS", "origin": "repo", "flags": ["uniform"], "note": ""}
create schema case_071;
grant usage on schema case_071 to anon, authenticated, service_role;
set search_path = case_071, public;
create table ads(id int primary key, status text, expires_at timestamptz);
insert into ads values (1,'active',null),(2,'active','2000-01-01Z'),(3,'active','2100-01-01Z'),(4,'draft',null);
alter table ads enable row level security;
create policy p1 on ads for select using (status = 'active' and (expires_at is null or expires_at > now()));
grant select, insert, update, delete on all tables in schema case_071 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_072", "class": "time", "level": "L7", "source": "gafniasaf/lovable-supabase-glue content_modules: published later, for students of the course", "entities": [{"table": "enrollments", "key": ["course", "student"]}, {"table": "modules", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["insert into enrollments values (2,'a11ce000-0000-4000-8000-000000000001')", "update modules set publish_date=null where id=2"], "writes": [], "shape": "RSK", "origin": "repo", "flags": ["clock"], "note": "row 5 appears 6 seconds after loading"}
create schema case_072;
grant usage on schema case_072 to anon, authenticated, service_role;
set search_path = case_072, public;
create table enrollments(course int, student uuid, primary key(course,student));
create table modules(id int primary key, course int, published boolean, publish_date timestamptz);
insert into enrollments values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'b0b00000-0000-4000-8000-000000000002');
insert into modules values (1,1,true,null),(2,1,true,'2100-01-01Z'),(3,2,true,'2000-01-01Z'),(4,1,false,null),(5,1,true,now() + interval '6 seconds');
alter table enrollments enable row level security;
alter table modules enable row level security;
create policy p1 on modules for select to authenticated using (published = true and (publish_date is null or publish_date <= now()) and exists (select 1 from enrollments e where e.course = modules.course and e.student = auth.uid()));
create policy p2 on enrollments for select using (student = auth.uid());
grant select, insert, update, delete on all tables in schema case_072 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_073", "class": "time", "level": "L7", "source": "7Spade/ng-alain-gighub-supabase subscriptions, daily_reports (current_date)", "entities": [{"table": "passes", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update passes set to_day='2100-01-01' where id=2", "update passes set from_day='2099-01-01' where id=1"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_073;
grant usage on schema case_073 to anon, authenticated, service_role;
set search_path = case_073, public;
create table passes(id int primary key, user_id uuid, from_day date, to_day date);
insert into passes values (1,'a11ce000-0000-4000-8000-000000000001','2000-01-01','2100-01-01'),(2,'a11ce000-0000-4000-8000-000000000001','2000-01-01','2001-01-01'),(3,'b0b00000-0000-4000-8000-000000000002',current_date,current_date);
alter table passes enable row level security;
create policy p1 on passes for select using (user_id = auth.uid() and from_day <= current_date and to_day >= current_date);
grant select, insert, update, delete on all tables in schema case_073 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_074", "class": "negation", "level": "L3", "source": "public index file 69123242634 (listings without hidden_listings)", "entities": [{"table": "listings", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["insert into hidden values (1)", "delete from hidden where listing=2"], "writes": [], "shape": "RSK+negated", "origin": "index", "flags": ["uniform"], "note": "an insert elsewhere takes rows away"}
create schema case_074;
grant usage on schema case_074 to anon, authenticated, service_role;
set search_path = case_074, public;
create table hidden(listing int primary key);
create table listings(id int primary key, title text);
insert into listings values (1,'a'),(2,'b');
insert into hidden values (2);
alter table listings enable row level security;
create policy p1 on listings for select to anon, authenticated using (not exists (select 1 from hidden where listing = listings.id));
grant select, insert, update, delete on all tables in schema case_074 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_075", "class": "negation", "level": "L2", "source": "three valued logic of NOT IN", "entities": [{"table": "posts", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["insert into banned values (null)", "delete from banned where user_id is null", "delete from banned"], "writes": [], "shape": "RSK+negated", "origin": "variant", "flags": ["uniform"], "note": "empty list: true even for a null author"}
create schema case_075;
grant usage on schema case_075 to anon, authenticated, service_role;
set search_path = case_075, public;
create table banned(user_id uuid);
create table posts(id int primary key, author uuid);
insert into banned values ('b0b00000-0000-4000-8000-000000000002');
insert into posts values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'b0b00000-0000-4000-8000-000000000002'),(3,null);
alter table posts enable row level security;
create policy p1 on posts for select using (author not in (select user_id from banned));
grant select, insert, update, delete on all tables in schema case_075 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_076", "class": "negation", "level": "L2", "source": "public index file 52347799420 (user_badges, privacy_hide_stats)", "entities": [{"table": "profiles", "key": ["id"]}, {"table": "badges", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update profiles set hide_stats=false where id='a11ce000-0000-4000-8000-000000000001'", "update profiles set hide_stats=true where id='ca401000-0000-4000-8000-000000000003'"], "writes": [], "shape": "RSK+negated", "origin": "index", "flags": [], "note": ""}
create schema case_076;
grant usage on schema case_076 to anon, authenticated, service_role;
set search_path = case_076, public;
create table profiles(id uuid primary key, hide_stats boolean);
create table badges(id int primary key, user_id uuid);
insert into profiles values ('a11ce000-0000-4000-8000-000000000001',true),('b0b00000-0000-4000-8000-000000000002',false),('ca401000-0000-4000-8000-000000000003',null);
insert into badges values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'b0b00000-0000-4000-8000-000000000002'),(3,'ca401000-0000-4000-8000-000000000003'),(4,'da7e0000-0000-4000-8000-000000000004');
alter table profiles enable row level security;
alter table badges enable row level security;
create policy p1 on profiles for select using (true);
create policy p2 on badges for select using (auth.uid() = user_id);
create policy p3 on badges for select using (not exists (select 1 from profiles p where p.id = user_id and p.hide_stats = true));
grant select, insert, update, delete on all tables in schema case_076 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_077", "class": "null_logic", "level": "L1", "source": "SUPABASE-V1/edupro public.teachers, maevsi/sqitch contact (is [not] distinct from)", "entities": [{"table": "rows", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false, "org": "o2"}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false, "org": "o1"}}], "moves": ["update rows set org=null where id=1", "update rows set owner='a11ce000-0000-4000-8000-000000000001' where id=3"], "writes": [], "shape": "mixed", "origin": "repo", "flags": [], "note": "null claims match null columns"}
create schema case_077;
grant usage on schema case_077 to anon, authenticated, service_role;
set search_path = case_077, public;
create table rows(id int primary key, org text, owner uuid);
insert into rows values (1,'o1','a11ce000-0000-4000-8000-000000000001'),(2,null,'b0b00000-0000-4000-8000-000000000002'),(3,'o2',null);
alter table rows enable row level security;
create policy p1 on rows for select using (org is not distinct from (auth.jwt() ->> 'org') and owner is distinct from auth.uid());
grant select, insert, update, delete on all tables in schema case_077 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_078", "class": "null_logic", "level": "L5", "source": "Zeerakz/noteful-supabase-clone public.blocks (CASE; there in WITH CHECK, here for reading)", "entities": [{"table": "items", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false, "level": 3}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false, "level": 10}}], "moves": ["update items set kind='team' where id=4", "update items set level=1 where id=3"], "writes": [], "shape": "mixed", "origin": "repo", "flags": [], "note": "no else: null, not visible"}
create schema case_078;
grant usage on schema case_078 to anon, authenticated, service_role;
set search_path = case_078, public;
create table items(id int primary key, kind text, owner uuid, level int);
insert into items values (1,'private','a11ce000-0000-4000-8000-000000000001',0),(2,'team',null,2),(3,'team',null,9),(4,'odd','a11ce000-0000-4000-8000-000000000001',0);
alter table items enable row level security;
create policy p1 on items for select using (case when kind = 'private' then owner = auth.uid() when kind = 'team' then level <= coalesce((auth.jwt() ->> 'level')::int, 0) end);
grant select, insert, update, delete on all tables in schema case_078 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_079", "class": "null_logic", "level": "L1", "source": "null claims, OR with true, NOT, IS NOT FALSE", "entities": [{"table": "t", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}, {"name": "none", "role": "authenticated", "claims": null, "settings": {}}], "moves": ["update t set ok=true where id=4", "update t set owner=null where id=3"], "writes": [], "shape": "mixed", "origin": "variant", "flags": [], "note": ""}
create schema case_079;
grant usage on schema case_079 to anon, authenticated, service_role;
set search_path = case_079, public;
create table t(id int primary key, owner uuid, ok boolean);
insert into t values (1,null,true),(2,null,false),(3,'a11ce000-0000-4000-8000-000000000001',null),(4,'a11ce000-0000-4000-8000-000000000001',false);
alter table t enable row level security;
create policy p1 on t for select using ((owner = auth.uid()) or ok);
create policy p2 on t for select using (not (owner <> auth.uid()) and ok is not false);
grant select, insert, update, delete on all tables in schema case_079 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_080", "class": "array_col", "level": "L3", "source": "public index files 55604604654, 3259505059 (messages of conversations with participants)", "entities": [{"table": "threads", "key": ["id"]}, {"table": "msgs", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update threads set people=people || 'a11ce000-0000-4000-8000-000000000001'::uuid where id=2", "update threads set people='{}' where id=1"], "writes": [], "shape": "RSK", "origin": "index", "flags": [], "note": ""}
create schema case_080;
grant usage on schema case_080 to anon, authenticated, service_role;
set search_path = case_080, public;
create table threads(id int primary key, people uuid[]);
create table msgs(id int primary key, thread int);
insert into threads values (1,array['a11ce000-0000-4000-8000-000000000001','b0b00000-0000-4000-8000-000000000002']::uuid[]),(2,array['ca401000-0000-4000-8000-000000000003']::uuid[]);
insert into msgs values (1,1),(2,2),(3,1);
alter table threads enable row level security;
alter table msgs enable row level security;
create policy p1 on threads for select using (auth.uid() = any(people));
create policy p2 on msgs for select using (exists (select 1 from threads t where t.id = msgs.thread and auth.uid() = any(t.people)));
grant select, insert, update, delete on all tables in schema case_080 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_081", "class": "array_col", "level": "L1", "source": "dandytbermillo/annotation-backup items shared_with text array; 7Spade assignee_ids", "entities": [{"table": "items", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update items set shared_with='{}' where id=3", "update items set shared_with=array['a11ce000-0000-4000-8000-000000000001'] where id=1"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_081;
grant usage on schema case_081 to anon, authenticated, service_role;
set search_path = case_081, public;
create table items(id int primary key, owner text, shared_with text[]);
insert into items values (1,'a11ce000-0000-4000-8000-000000000001','{}'),(2,'b0b00000-0000-4000-8000-000000000002',array['a11ce000-0000-4000-8000-000000000001']),(3,'b0b00000-0000-4000-8000-000000000002',array['*']);
alter table items enable row level security;
create policy p1 on items using (owner = auth.uid()::text or auth.uid()::text = any(shared_with) or '*' = any(shared_with));
grant select, insert, update, delete on all tables in schema case_081 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_082", "class": "array_col", "level": "L2", "source": "crbnos/carbon document (groups && readGroups)", "entities": [{"table": "records", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false, "groups": ["eng"], "has": ["nda", "eu", "x"]}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false, "groups": ["hr", "ops"]}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false, "groups": []}}], "moves": ["update records set needs='{}' where id=2", "update records set read_groups='{hr,eng}' where id=3"], "writes": [], "shape": "RSK+containment", "origin": "repo", "flags": [], "note": ""}
create schema case_082;
grant usage on schema case_082 to anon, authenticated, service_role;
set search_path = case_082, public;
create table records(id int primary key, read_groups text[], needs text[]);
insert into records values (1,'{eng,ops}','{}'),(2,'{hr}','{nda}'),(3,'{}','{}'),(4,'{eng}','{nda,eu}');
alter table records enable row level security;
create policy p1 on records for select using (read_groups && array(select jsonb_array_elements_text(auth.jwt() -> 'groups')) and needs <@ array(select jsonb_array_elements_text(coalesce(auth.jwt() -> 'has', '[]'::jsonb))));
grant select, insert, update, delete on all tables in schema case_082 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_083", "class": "jsonb_col", "level": "L1", "source": "public index files 53537072346, 30975005378 (participants @> , permissions->viewers @>)", "entities": [{"table": "docs", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update docs set acl=jsonb_set(acl,'{readers}',acl->'readers' || to_jsonb('a11ce000-0000-4000-8000-000000000001'::text)) where id=2", "update docs set acl='{\"readers\":[]}' where id=1"], "writes": [], "shape": "RSK+containment", "origin": "index", "flags": [], "note": ""}
create schema case_083;
grant usage on schema case_083 to anon, authenticated, service_role;
set search_path = case_083, public;
create table docs(id int primary key, acl jsonb);
insert into docs values (1,jsonb_build_object('readers',jsonb_build_array('a11ce000-0000-4000-8000-000000000001','b0b00000-0000-4000-8000-000000000002'))),(2,jsonb_build_object('readers',jsonb_build_array('b0b00000-0000-4000-8000-000000000002'))),(3,'{}'),(4,null);
alter table docs enable row level security;
create policy p1 on docs for select using (acl @> jsonb_build_object('readers', jsonb_build_array(auth.uid()::text)));
grant select, insert, update, delete on all tables in schema case_083 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_084", "class": "jsonb_col", "level": "L1", "source": "public index files 47168378725, 60980170541 (shared_with ? uid)", "entities": [{"table": "docs", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update docs set acl=jsonb_set(acl,array['a11ce000-0000-4000-8000-000000000001'::text,'level'],'1') where id=2", "update docs set acl=acl - 'a11ce000-0000-4000-8000-000000000001'::text where id=1"], "writes": [], "shape": "mixed", "origin": "index", "flags": [], "note": ""}
create schema case_084;
grant usage on schema case_084 to anon, authenticated, service_role;
set search_path = case_084, public;
create table docs(id int primary key, acl jsonb);
insert into docs values (1,jsonb_build_object('a11ce000-0000-4000-8000-000000000001'::text,'{"level":2}'::jsonb)),(2,jsonb_build_object('a11ce000-0000-4000-8000-000000000001'::text,'{"level":0}'::jsonb,'b0b00000-0000-4000-8000-000000000002'::text,'{"level":3}'::jsonb)),(3,'{}');
alter table docs enable row level security;
create policy p1 on docs for select using (acl ? auth.uid()::text and (acl -> auth.uid()::text ->> 'level')::int >= 1);
grant select, insert, update, delete on all tables in schema case_084 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_085", "class": "hierarchy", "level": "L9", "source": "estuary/flow: prefix grants with a recursive role graph, starts_with", "entities": [{"table": "user_grants", "key": ["user_id", "prefix"]}, {"table": "role_grants", "key": ["subject", "object"]}, {"table": "specs", "key": ["name"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update role_grants set cap=30 where subject='acme/'", "delete from user_grants where user_id='b0b00000-0000-4000-8000-000000000002'", "insert into specs values ('acme/six',1)"], "writes": [], "shape": "mixed", "origin": "repo", "flags": [], "note": "only admin grants (30) are followed"}
create schema case_085;
grant usage on schema case_085 to anon, authenticated, service_role;
set search_path = case_085, public;
create table user_grants(user_id uuid, prefix text, cap int, primary key(user_id,prefix));
create table role_grants(subject text, object text, cap int, primary key(subject,object));
create table specs(name text primary key, v int);
insert into user_grants values ('a11ce000-0000-4000-8000-000000000001','acme/',30),('b0b00000-0000-4000-8000-000000000002','beta/',10);
insert into role_grants values ('acme/','shared/',10),('shared/','deep/',10),('beta/','acme/x/',10);
insert into specs values ('acme/one',1),('acme/x/two',1),('shared/three',1),('deep/four',1),('beta/five',1);
create function case_085.auth_roles() returns table(prefix text, cap int) language sql stable security definer set search_path = '' as $$ with recursive r(prefix, cap) as (select prefix, cap from case_085.user_grants where user_id = auth.uid() union select g.object, g.cap from case_085.role_grants g join r on starts_with(g.subject, r.prefix) and r.cap = 30) select prefix, cap from r $$;
alter table user_grants enable row level security;
alter table role_grants enable row level security;
alter table specs enable row level security;
create policy p1 on specs for select using (exists (select 1 from case_085.auth_roles() r where starts_with(specs.name, r.prefix)));
grant select, insert, update, delete on all tables in schema case_085 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_086", "class": "hierarchy", "level": "L3", "source": "public index file 1889517328 (path <@ scope), made a membership", "entities": [{"table": "dept_users", "key": ["user_id", "path"]}, {"table": "sheets", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update sheets set path='top.hr.x' where id=1", "insert into dept_users values ('a11ce000-0000-4000-8000-000000000001','top.hr')"], "writes": [], "shape": "mixed", "origin": "index", "flags": [], "note": ""}
create schema case_086;
grant usage on schema case_086 to anon, authenticated, service_role;
set search_path = case_086, public;
create table departments(id int primary key, path public.ltree);
create table dept_users(user_id uuid, path public.ltree, primary key(user_id,path));
create table sheets(id int primary key, path public.ltree);
insert into dept_users values ('a11ce000-0000-4000-8000-000000000001','top.eng'),('b0b00000-0000-4000-8000-000000000002','top');
insert into sheets values (1,'top.eng.db'),(2,'top.hr'),(3,'top.eng'),(4,null);
alter table dept_users enable row level security;
alter table sheets enable row level security;
create policy p1 on sheets for select using (exists (select 1 from dept_users d where d.user_id = auth.uid() and sheets.path operator(public.<@) d.path));
create policy p2 on dept_users for select using (user_id = auth.uid());
grant select, insert, update, delete on all tables in schema case_086 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_087", "class": "hierarchy", "level": "L2", "source": "public index file 55259446229 (manager_id = uid), one level through IN", "entities": [{"table": "staff", "key": ["id"]}, {"table": "reviews", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update staff set manager='a11ce000-0000-4000-8000-000000000001' where id='ca401000-0000-4000-8000-000000000003'", "update reviews set about='ca401000-0000-4000-8000-000000000003' where id=3"], "writes": [], "shape": "RSK", "origin": "index", "flags": [], "note": ""}
create schema case_087;
grant usage on schema case_087 to anon, authenticated, service_role;
set search_path = case_087, public;
create table staff(id uuid primary key, manager uuid);
create table reviews(id int primary key, about uuid);
insert into staff values ('a11ce000-0000-4000-8000-000000000001',null),('b0b00000-0000-4000-8000-000000000002','a11ce000-0000-4000-8000-000000000001'),('ca401000-0000-4000-8000-000000000003','b0b00000-0000-4000-8000-000000000002');
insert into reviews values (1,'b0b00000-0000-4000-8000-000000000002'),(2,'ca401000-0000-4000-8000-000000000003'),(3,'a11ce000-0000-4000-8000-000000000001');
alter table staff enable row level security;
alter table reviews enable row level security;
create policy p1 on staff for select using (true);
create policy p2 on reviews for select using (about = auth.uid() or about in (select id from staff where manager = auth.uid()));
grant select, insert, update, delete on all tables in schema case_087 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_088", "class": "write_check", "level": "L2", "source": "membership role in WITH CHECK (Zeerakz/noteful-supabase-clone blocks insert is close)", "entities": [{"table": "members", "key": ["team", "user_id"]}, {"table": "posts", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update members set role='viewer' where team=1 and user_id='a11ce000-0000-4000-8000-000000000001'", "delete from members where team=2"], "writes": [{"user": "bob", "sql": "insert into posts values (10,1,'b0b00000-0000-4000-8000-000000000002')"}, {"user": "bob", "sql": "insert into posts values (11,2,'b0b00000-0000-4000-8000-000000000002')"}, {"user": "alice", "sql": "insert into posts values (12,1,'b0b00000-0000-4000-8000-000000000002')"}, {"user": "alice", "sql": "delete from posts where id=1"}, {"user": "bob", "sql": "delete from posts where id=1"}], "shape": "RSK", "origin": "variant", "flags": [], "note": ""}
create schema case_088;
grant usage on schema case_088 to anon, authenticated, service_role;
set search_path = case_088, public;
create table members(team int, user_id uuid, role text, primary key(team,user_id));
create table posts(id int primary key, team int, author uuid);
insert into members values (1,'a11ce000-0000-4000-8000-000000000001','editor'),(1,'b0b00000-0000-4000-8000-000000000002','viewer'),(2,'b0b00000-0000-4000-8000-000000000002','editor');
insert into posts values (1,1,'a11ce000-0000-4000-8000-000000000001'),(2,2,'b0b00000-0000-4000-8000-000000000002');
alter table members enable row level security;
alter table posts enable row level security;
create policy p1 on members for select using (user_id = auth.uid());
create policy p2 on posts for select using (team in (select team from members where user_id = auth.uid()));
create policy p3 on posts for insert with check (author = auth.uid() and team in (select team from members where user_id = auth.uid() and role = 'editor'));
create policy p4 on posts for delete using (author = auth.uid());
grant select, insert, update, delete on all tables in schema case_088 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_089", "class": "write_check", "level": "L1", "source": "insert without select", "entities": [{"table": "reports", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false, "user_role": "moderator"}}], "moves": ["insert into reports values (2,'b0b00000-0000-4000-8000-000000000002','y')"], "writes": [{"user": "alice", "sql": "insert into reports values (5,'a11ce000-0000-4000-8000-000000000001','ok')"}, {"user": "alice", "sql": "insert into reports values (6,'a11ce000-0000-4000-8000-000000000001','r') returning id"}, {"user": "alice", "sql": "update reports set body='z'"}], "shape": "RS", "origin": "variant", "flags": [], "note": "insert with returning needs select: 42501"}
create schema case_089;
grant usage on schema case_089 to anon, authenticated, service_role;
set search_path = case_089, public;
create table reports(id int primary key, reporter uuid, body text);
insert into reports values (1,'a11ce000-0000-4000-8000-000000000001','x');
alter table reports enable row level security;
create policy p1 on reports for insert to authenticated with check (reporter = auth.uid());
create policy p2 on reports for select to authenticated using (auth.jwt() ->> 'user_role' = 'moderator');
grant select, insert, update, delete on all tables in schema case_089 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_090", "class": "write_check", "level": "L3", "source": "7Spade/ng-alain-gighub-supabase public.team_members (first leader)", "entities": [{"table": "team_members", "key": ["team", "user_id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["delete from team_members"], "writes": [{"user": "bob", "sql": "insert into team_members values (1,'b0b00000-0000-4000-8000-000000000002','leader')"}, {"user": "bob", "sql": "insert into team_members values (2,'b0b00000-0000-4000-8000-000000000002','leader')"}], "shape": "RS", "origin": "repo", "flags": ["uniform"], "note": ""}
create schema case_090;
grant usage on schema case_090 to anon, authenticated, service_role;
set search_path = case_090, public;
create table team_members(team int, user_id uuid, role text, primary key(team,user_id));
insert into team_members values (1,'a11ce000-0000-4000-8000-000000000001','leader');
alter table team_members enable row level security;
create policy p1 on team_members for select using (true);
create policy p2 on team_members for insert with check (role = 'leader' and user_id = auth.uid() and not exists (select 1 from team_members tm where tm.team = team_members.team));
grant select, insert, update, delete on all tables in schema case_090 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_091", "class": "multi_policy", "level": "L3", "source": "SUPABASE-V1/edupro students (teacher, parent, admin, own)", "entities": [{"table": "profiles", "key": ["id"]}, {"table": "classes", "key": ["id"]}, {"table": "students", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "dave", "role": "authenticated", "claims": {"sub": "da7e0000-0000-4000-8000-000000000004", "role": "authenticated", "email": "dave@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update classes set teacher='a11ce000-0000-4000-8000-000000000001' where id=2", "update students set parent=null where id=1", "update profiles set role='parent' where id='ca401000-0000-4000-8000-000000000003'"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_091;
grant usage on schema case_091 to anon, authenticated, service_role;
set search_path = case_091, public;
create table profiles(id uuid primary key, role text);
create table classes(id int primary key, teacher uuid);
create table students(id int primary key, class int, parent uuid, user_id uuid);
insert into profiles values ('a11ce000-0000-4000-8000-000000000001','teacher'),('b0b00000-0000-4000-8000-000000000002','parent'),('ca401000-0000-4000-8000-000000000003','admin'),('da7e0000-0000-4000-8000-000000000004','student');
insert into classes values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'ca401000-0000-4000-8000-000000000003');
insert into students values (1,1,'b0b00000-0000-4000-8000-000000000002','da7e0000-0000-4000-8000-000000000004'),(2,2,'b0b00000-0000-4000-8000-000000000002',null),(3,1,null,null),(4,2,null,'e4100000-0000-4000-8000-000000000005');
alter table profiles enable row level security;
alter table classes enable row level security;
alter table students enable row level security;
create policy p1 on profiles for select using (id = auth.uid());
create policy p2 on classes for select using (true);
create policy p3 on students for select using (user_id = auth.uid());
create policy p4 on students for select using (parent = auth.uid());
create policy p5 on students for select using (class in (select id from classes where teacher = auth.uid()));
create policy p6 on students for select using (exists (select 1 from profiles p where p.id = auth.uid() and p.role = 'admin'));
grant select, insert, update, delete on all tables in schema case_091 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_092", "class": "multi_policy", "level": "L1", "source": "mckaywrigley/chatbot-ui chats", "entities": [{"table": "chats", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false, "user_role": "admin"}}], "moves": ["update chats set sharing='private' where id=2"], "writes": [{"user": "carol", "sql": "delete from chats where id=2"}, {"user": "carol", "sql": "delete from chats where id=1"}, {"user": "alice", "sql": "update chats set sharing='public' where id=2"}], "shape": "RSK", "origin": "repo", "flags": [], "note": "delete of id 2 by carol works because select also allows it; id 1 is not seen"}
create schema case_092;
grant usage on schema case_092 to anon, authenticated, service_role;
set search_path = case_092, public;
create table chats(id int primary key, user_id uuid, sharing text);
insert into chats values (1,'a11ce000-0000-4000-8000-000000000001','private'),(2,'b0b00000-0000-4000-8000-000000000002','public');
alter table chats enable row level security;
create policy p1 on chats using (user_id = auth.uid()) with check (user_id = auth.uid());
create policy p2 on chats for select using (sharing <> 'private');
create policy p3 on chats for delete using (auth.jwt() ->> 'user_role' = 'admin');
grant select, insert, update, delete on all tables in schema case_092 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_093", "class": "text_match", "level": "L5", "source": "public index files 54776850464, 6913110561 (auth.email() ilike %@domain)", "entities": [{"table": "leads", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@other.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update leads set email='y@ACME.TEST' where id=2"], "writes": [], "shape": "mixed", "origin": "index", "flags": [], "note": ""}
create schema case_093;
grant usage on schema case_093 to anon, authenticated, service_role;
set search_path = case_093, public;
create table leads(id int primary key, email text);
insert into leads values (1,'x@Acme.test'),(2,'y@other.test'),(3,null),(4,'z@acme.test.evil');
alter table leads enable row level security;
create policy p1 on leads for select to authenticated using (email ilike '%@' || split_part(auth.jwt() ->> 'email', '@', 2));
grant select, insert, update, delete on all tables in schema case_093 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_094", "class": "text_match", "level": "L8", "source": "Razikus/supabase-nextjs-template storage.objects, SUPABASE-V1/edupro storage.objects (name ~ ^uid/)", "entities": [{"table": "objects", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update objects set name='a11ce000-0000-4000-8000-000000000001'||'/c' where id=4"], "writes": [], "shape": "mixed", "origin": "repo", "flags": [], "note": ""}
create schema case_094;
grant usage on schema case_094 to anon, authenticated, service_role;
set search_path = case_094, public;
create table objects(id int primary key, bucket_id text, name text, owner uuid, metadata jsonb);
insert into objects values (1,'files','a11ce000-0000-4000-8000-000000000001'||'/a',null,null),(2,'files','a11ce000-0000-4000-8000-000000000001'||'x/a',null,null),(3,'files','x/'||'a11ce000-0000-4000-8000-000000000001'||'/a',null,null),(4,'files','b0b00000-0000-4000-8000-000000000002'||'/b',null,null);
alter table objects enable row level security;
create policy p1 on objects for select using (bucket_id = 'files' and name ~ ('^' || auth.uid()::text || '/'));
grant select, insert, update, delete on all tables in schema case_094 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_095", "class": "corr_range", "level": "L3", "source": "public index file 55818013174 (messages.created_at >= cm.joined_at)", "entities": [{"table": "members", "key": ["room", "user_id"]}, {"table": "messages", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update members set joined=2 where user_id='b0b00000-0000-4000-8000-000000000002'", "update messages set seq=0 where id=3", "insert into members values (2,'b0b00000-0000-4000-8000-000000000002',0)"], "writes": [], "shape": "RSK", "origin": "index", "flags": [], "note": ""}
create schema case_095;
grant usage on schema case_095 to anon, authenticated, service_role;
set search_path = case_095, public;
create table members(room int, user_id uuid, joined int, primary key(room,user_id));
create table messages(id int primary key, room int, seq int);
insert into members values (1,'a11ce000-0000-4000-8000-000000000001',0),(1,'b0b00000-0000-4000-8000-000000000002',5);
insert into messages values (1,1,1),(2,1,5),(3,1,9),(4,2,1);
alter table members enable row level security;
alter table messages enable row level security;
create policy p1 on members for select using (user_id = auth.uid());
create policy p2 on messages for select using (exists (select 1 from members m where m.room = messages.room and m.user_id = auth.uid() and messages.seq >= m.joined));
grant select, insert, update, delete on all tables in schema case_095 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_096", "class": "corr_range", "level": "L9", "source": "jmarca/postgraphile_user_system user_authentication (IN with ORDER BY LIMIT), as a reading policy", "entities": [{"table": "logs", "key": ["id"]}, {"table": "tokens", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["insert into logs values (5,'a11ce000-0000-4000-8000-000000000001',9)", "delete from logs where id=3"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": ""}
create schema case_096;
grant usage on schema case_096 to anon, authenticated, service_role;
set search_path = case_096, public;
create table logs(id int primary key, user_id uuid, at int);
create table tokens(id int primary key, log_id int);
insert into logs values (1,'a11ce000-0000-4000-8000-000000000001',1),(2,'a11ce000-0000-4000-8000-000000000001',2),(3,'a11ce000-0000-4000-8000-000000000001',3),(4,'b0b00000-0000-4000-8000-000000000002',1);
insert into tokens values (1,1),(2,2),(3,3),(4,4);
alter table logs enable row level security;
alter table tokens enable row level security;
create policy p1 on tokens for select using (log_id in (select id from logs where user_id = auth.uid() order by at desc limit 2));
create policy p2 on logs for select using (user_id = auth.uid());
grant select, insert, update, delete on all tables in schema case_096 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_097", "class": "binding", "level": "L2", "source": "bb81a/makerkit-app, zajcomm/makerkit-next-supabase-saas-kit organizations_subscriptions: unqualified column binds to the inner table (a real leak)", "entities": [{"table": "memberships", "key": ["user_id", "organization_id"]}, {"table": "org_subs", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "carol", "role": "authenticated", "claims": {"sub": "ca401000-0000-4000-8000-000000000003", "role": "authenticated", "email": "carol@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["delete from memberships where user_id='a11ce000-0000-4000-8000-000000000001'", "insert into memberships values ('ca401000-0000-4000-8000-000000000003',1)"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": "organization_id = memberships.organization_id is true for every membership: members see all rows, PostgreSQL says so and the engine must too"}
create schema case_097;
grant usage on schema case_097 to anon, authenticated, service_role;
set search_path = case_097, public;
create table memberships(user_id uuid, organization_id int, primary key(user_id,organization_id));
create table org_subs(id int primary key, organization_id int);
insert into memberships values ('a11ce000-0000-4000-8000-000000000001',1),('b0b00000-0000-4000-8000-000000000002',2);
insert into org_subs values (1,1),(2,2),(3,3);
alter table memberships enable row level security;
alter table org_subs enable row level security;
create policy p1 on memberships for select using (user_id = auth.uid());
create policy p2 on org_subs for select using (exists (select 1 from memberships where user_id = auth.uid() and organization_id = memberships.organization_id));
grant select, insert, update, delete on all tables in schema case_097 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_098", "class": "binding", "level": "L3", "source": "quoted mixed case names and alias shadowing (usebasejump/basejump account_user delete binds the same way)", "entities": [{"table": "Org", "key": ["orgId"]}, {"table": "Doc", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update \"Org\" set \"ownerId\"='a11ce000-0000-4000-8000-000000000001' where \"orgId\"=2", "update \"Doc\" set \"orgId\"=1 where id=3"], "writes": [], "shape": "RSK", "origin": "variant", "flags": [], "note": ""}
create schema case_098;
grant usage on schema case_098 to anon, authenticated, service_role;
set search_path = case_098, public;
create table "Org"("orgId" int primary key, "ownerId" uuid);
create table "Doc"(id int primary key, "orgId" int);
insert into "Org" values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'b0b00000-0000-4000-8000-000000000002');
insert into "Doc" values (1,1),(2,2),(3,null);
alter table "Org" enable row level security;
alter table "Doc" enable row level security;
create policy p1 on "Org" for select using ("ownerId" = auth.uid());
create policy p2 on "Doc" for select using (exists (select 1 from "Org" "Doc2" where "Doc2"."orgId" = "Doc"."orgId" and "Doc2"."ownerId" = auth.uid()));
grant select, insert, update, delete on all tables in schema case_098 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_099", "class": "share_header", "level": "L2", "source": "tambo-ai/tambo project_api_key, crbnos/carbon has_valid_api_key_for_company", "entities": [{"table": "api_keys", "key": ["key_hash"]}, {"table": "invoices", "key": ["id"]}], "users": [{"name": "anon", "role": "anon", "claims": {"role": "anon"}, "settings": {"request.headers": "{\"x-key\":\"h1\"}"}}, {"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}, "settings": {"request.headers": "{\"x-key\":\"h2\"}"}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}], "moves": ["update api_keys set revoked=true where key_hash='h1'", "update api_keys set revoked=false where key_hash='h2'"], "writes": [], "shape": "RSK", "origin": "repo", "flags": [], "note": "revocation of a key must stop a living subscription"}
create schema case_099;
grant usage on schema case_099 to anon, authenticated, service_role;
set search_path = case_099, public;
create table api_keys(key_hash text primary key, company text, revoked boolean default false);
create table invoices(id int primary key, company text);
insert into api_keys values ('h1','c1',false),('h2','c2',true);
insert into invoices values (1,'c1'),(2,'c2');
create function case_099.company_of_key() returns text language sql stable security definer set search_path = '' as $$ select company from case_099.api_keys where key_hash = current_setting('request.headers', true)::json ->> 'x-key' and not revoked $$;
alter table api_keys enable row level security;
alter table invoices enable row level security;
create policy p1 on invoices for select using (case_099.company_of_key() = company);
grant select, insert, update, delete on all tables in schema case_099 to anon, authenticated, service_role;
reset search_path;

-- @case {"id": "case_100", "class": "share_header", "level": "L2", "source": "share table open to anon", "entities": [{"table": "links", "key": ["slug"]}, {"table": "docs", "key": ["id"]}], "users": [{"name": "alice", "role": "authenticated", "claims": {"sub": "a11ce000-0000-4000-8000-000000000001", "role": "authenticated", "email": "alice@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "bob", "role": "authenticated", "claims": {"sub": "b0b00000-0000-4000-8000-000000000002", "role": "authenticated", "email": "bob@acme.test", "aal": "aal1", "is_anonymous": false}}, {"name": "anon", "role": "anon", "claims": {"role": "anon"}}], "moves": ["update links set open=false where slug='a'", "insert into links values ('c',3,true)"], "writes": [], "shape": "RSK", "origin": "variant", "flags": [], "note": ""}
create schema case_100;
grant usage on schema case_100 to anon, authenticated, service_role;
set search_path = case_100, public;
create table links(slug text primary key, doc int, open boolean);
create table docs(id int primary key, owner uuid);
insert into docs values (1,'a11ce000-0000-4000-8000-000000000001'),(2,'a11ce000-0000-4000-8000-000000000001'),(3,'b0b00000-0000-4000-8000-000000000002');
insert into links values ('a',1,true),('b',2,false);
alter table links enable row level security;
alter table docs enable row level security;
create policy p1 on links for select to anon, authenticated using (open);
create policy p2 on docs for select using (owner = auth.uid() or id in (select doc from links where open));
grant select, insert, update, delete on all tables in schema case_100 to anon, authenticated, service_role;
reset search_path;
