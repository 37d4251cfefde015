/**
 * The numbered steps from an empty file to the present shape. Index + 1 is the version stored in the file. Steps already released are
 * never edited; a change is a new step.
 */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE job (
    id           TEXT PRIMARY KEY,
    kind         TEXT NOT NULL,
    args         TEXT NOT NULL,
    owner_pid    INTEGER,
    owner_boot   TEXT,
    owner_start  INTEGER,
    lease_until  TEXT,
    begun_at     TEXT NOT NULL,
    finished_at  TEXT,
    outcome      TEXT,
    sequence     INTEGER NOT NULL UNIQUE
  ) STRICT;
  CREATE INDEX job_unfinished ON job (sequence) WHERE finished_at IS NULL;

  CREATE TABLE claim (
    id           TEXT PRIMARY KEY,
    job          TEXT NOT NULL REFERENCES job (id),
    sequence     INTEGER NOT NULL UNIQUE,
    kind         TEXT NOT NULL,
    args         TEXT NOT NULL,
    depends_on   TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('intended', 'confirmed', 'released')),
    ref          TEXT,
    intended_at  TEXT NOT NULL,
    released_at  TEXT,
    kept_reason  TEXT
  ) STRICT;
  CREATE INDEX claim_open ON claim (job, sequence) WHERE state <> 'released';

  CREATE TABLE vm_lock (
    vm           TEXT PRIMARY KEY,
    vm_name      TEXT NOT NULL,
    claim        TEXT NOT NULL UNIQUE REFERENCES claim (id),
    taken_at     TEXT NOT NULL
  ) STRICT;

  CREATE TABLE point (
    repository     TEXT NOT NULL,
    id             TEXT NOT NULL,
    time           TEXT NOT NULL,
    vm_name        TEXT NOT NULL,
    instance_uuid  TEXT NOT NULL,
    vcenter_uuid   TEXT NOT NULL,
    mode           TEXT NOT NULL CHECK (mode IN ('full', 'incremental')),
    run            TEXT NOT NULL,
    consistency    TEXT NOT NULL,
    total_bytes    INTEGER NOT NULL,
    read_bytes     INTEGER NOT NULL,
    stored_bytes   INTEGER NOT NULL,
    not_protected  INTEGER NOT NULL,
    PRIMARY KEY (repository, id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX point_time ON point (time DESC);
  CREATE INDEX point_vm ON point (instance_uuid, vcenter_uuid, time DESC);
  CREATE INDEX point_id ON point (id);
  `,
  // What status, cancel and back-off need to know of jobs and claims; finished jobs can be listed and pruned.
  `
  ALTER TABLE claim ADD COLUMN kept_at TEXT;
  ALTER TABLE claim ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE job ADD COLUMN cancel_requested_at TEXT;
  ALTER TABLE job ADD COLUMN cancel_requested_by TEXT;
  CREATE INDEX job_finished ON job (sequence DESC) WHERE finished_at IS NOT NULL;
  CREATE INDEX claim_job ON claim (job);
  `,
  // What a running job waits for, in words.
  `
  ALTER TABLE job ADD COLUMN waits_for TEXT;
  `,
  // What processes have of limits that they share, and wait for: a row a token. A reused id would let one who waits pass another.
  `
  CREATE TABLE limit_token (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    bucket       TEXT NOT NULL,
    name         TEXT NOT NULL,
    most         INTEGER NOT NULL,
    holder       TEXT NOT NULL,
    owner_pid    INTEGER NOT NULL,
    owner_boot   TEXT NOT NULL,
    owner_start  INTEGER NOT NULL,
    held         INTEGER NOT NULL CHECK (held IN (0, 1))
  ) STRICT;
  CREATE INDEX limit_token_bucket ON limit_token (bucket, id);
  `,
  // How each run of each VM ended, and since when jobs know their VMs.
  `
  CREATE TABLE run (
    id             INTEGER PRIMARY KEY,
    run            TEXT NOT NULL,
    vcenter_uuid   TEXT NOT NULL,
    instance_uuid  TEXT NOT NULL,
    moref          TEXT NOT NULL,
    vm_name        TEXT NOT NULL,
    vm_path        TEXT NOT NULL,
    job            TEXT,
    ended_at       TEXT NOT NULL,
    result         TEXT NOT NULL CHECK (result IN ('succeeded', 'failed', 'canceled')),
    record         TEXT NOT NULL,
    UNIQUE (run, vcenter_uuid, instance_uuid)
  ) STRICT;
  CREATE INDEX run_ended ON run (ended_at DESC, id DESC);
  CREATE INDEX run_vm ON run (instance_uuid, vcenter_uuid, ended_at DESC);
  CREATE TABLE job_vm (
    job            TEXT NOT NULL,
    vcenter_uuid   TEXT NOT NULL,
    instance_uuid  TEXT NOT NULL,
    since          TEXT NOT NULL,
    PRIMARY KEY (job, vcenter_uuid, instance_uuid)
  ) STRICT, WITHOUT ROWID;
  `,
  // Searches by VM and by job look at the rows of that VM or job only.
  `
  CREATE INDEX run_job ON run (job, ended_at DESC, id DESC);
  CREATE INDEX run_vm_name ON run (vm_name);
  CREATE INDEX run_vm_path ON run (vm_path);
  CREATE INDEX run_moref ON run (moref);
  CREATE INDEX point_vm_name ON point (vm_name, time DESC);
  `,
  // What people were told last.
  `
  CREATE TABLE told_mark (
    name   TEXT PRIMARY KEY,
    value  TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  // When each repository was pruned last.
  `
  CREATE TABLE repository_prune (
    repository  TEXT PRIMARY KEY,
    pruned_at   TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  // How far the checks of each repository are.
  `
  CREATE TABLE repository_check (
    repository  TEXT PRIMARY KEY,
    record      TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  // When the Object Locks of each repository were renewed last, and why not since.
  `
  CREATE TABLE repository_renewal (
    repository    TEXT PRIMARY KEY,
    renewed_at    TEXT,
    short_points  INTEGER NOT NULL,
    problem       TEXT,
    problem_at    TEXT
  ) STRICT, WITHOUT ROWID;
  `,
]
