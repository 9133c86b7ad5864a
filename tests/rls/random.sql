CREATE SCHEMA r;
GRANT USAGE ON SCHEMA r TO anon, authenticated, corpus_auditor;
CREATE TABLE r.docs (id int PRIMARY KEY, owner uuid, team int, state text, open boolean, level int);
CREATE TABLE r.members (team int, who uuid, role text, PRIMARY KEY (team, who));
CREATE TABLE r.hidden (id int PRIMARY KEY, team int);
CREATE TABLE r.admins (who uuid PRIMARY KEY);
ALTER TABLE r.docs ENABLE ROW LEVEL SECURITY;
ALTER TABLE r.members ENABLE ROW LEVEL SECURITY;
ALTER TABLE r.hidden ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON ALL TABLES IN SCHEMA r TO anon, authenticated, corpus_auditor;
CREATE FUNCTION r.is_admin() RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = '' AS
    $$ BEGIN RETURN EXISTS (SELECT 1 FROM r.admins WHERE who = auth.uid()); END $$;
CREATE FUNCTION r.my_team() RETURNS int LANGUAGE sql STABLE AS
    $$ SELECT min(team) FROM r.members WHERE who = auth.uid() $$;
CREATE FUNCTION r.my_teams() RETURNS int[] LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
    $$ SELECT array_agg(team) FROM r.members WHERE who = auth.uid() $$;
CREATE FUNCTION r.team_set() RETURNS SETOF int LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
    $$ SELECT team FROM r.members WHERE who = auth.uid() $$;
CREATE FUNCTION r.is_member(wanted int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS
    $$ SELECT EXISTS (SELECT 1 FROM r.members WHERE who = auth.uid() AND team = wanted) $$;
