CREATE TABLE IF NOT EXISTS organisations (
    id text PRIMARY KEY NOT NULL,
    name text NOT NULL);
CREATE TABLE IF NOT EXISTS organisation_admins (
    organisation_id text NOT NULL REFERENCES organisations (id) ON DELETE CASCADE,
    person text NOT NULL,
    PRIMARY KEY (organisation_id, person));
CREATE TABLE IF NOT EXISTS teams (
    id text PRIMARY KEY NOT NULL,
    organisation_id text NOT NULL REFERENCES organisations (id) ON DELETE CASCADE,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 80));
CREATE TABLE IF NOT EXISTS team_members (
    team_id text NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    person text NOT NULL CHECK (length(person) BETWEEN 1 AND 80),
    PRIMARY KEY (team_id, person));
CREATE TABLE IF NOT EXISTS documents (
    id text PRIMARY KEY NOT NULL,
    team_id text NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    author text NOT NULL,
    title text NOT NULL CHECK (length(title) BETWEEN 1 AND 200));
CREATE TABLE IF NOT EXISTS invitations (
    id text PRIMARY KEY NOT NULL,
    team_id text NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    email text NOT NULL,
    UNIQUE (team_id, email));

-- The engine asks by these: whose memberships a person has, and which rows a team has.
CREATE INDEX IF NOT EXISTS organisation_admins_of_person ON organisation_admins (person);
CREATE INDEX IF NOT EXISTS teams_of_organisation ON teams (organisation_id);
CREATE INDEX IF NOT EXISTS team_members_of_person ON team_members (person);
CREATE INDEX IF NOT EXISTS documents_of_team ON documents (team_id);
CREATE INDEX IF NOT EXISTS invitations_of_email ON invitations (email);

INSERT INTO organisations VALUES ('acme', 'Acme'), ('zenith', 'Zenith') ON CONFLICT DO NOTHING;
INSERT INTO organisation_admins VALUES ('acme', 'ann'), ('zenith', 'ben') ON CONFLICT DO NOTHING;
INSERT INTO teams VALUES ('design', 'acme', 'Design'), ('engines', 'acme', 'Engines'), ('sails', 'zenith', 'Sails')
    ON CONFLICT DO NOTHING;
INSERT INTO team_members VALUES ('design', 'ann'), ('sails', 'ben') ON CONFLICT DO NOTHING;
INSERT INTO documents VALUES
    ('colours', 'design', 'ann', 'Which colours we use'),
    ('pistons', 'engines', 'cat', 'How to fit a piston'),
    ('canvas', 'sails', 'ben', 'Where to buy canvas')
    ON CONFLICT DO NOTHING;
