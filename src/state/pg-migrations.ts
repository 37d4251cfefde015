/**
 * The numbered steps from an empty schema `vcb` to the present shape. Index + 1 is the version stored in `vcb.about`. Steps already released are
 * never edited; a change is a new step. What is compared by the database's clock is a `timestamptz`; what only comes back is text, as the SQLite file has it.
 */
export const PG_MIGRATIONS: readonly string[] = [
  // Who works on this database: a row an epoch, which is one life of one process. `state` goes from alive to dead or gone, and never back.
  `
  CREATE TABLE proxy_process (
    epoch        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent        text NOT NULL,
    host         text NOT NULL,
    pid          bigint NOT NULL,
    boot         text NOT NULL,
    start        bigint NOT NULL,
    begun_at     timestamptz NOT NULL,
    beat_at      timestamptz NOT NULL,
    ended_at     timestamptz,
    state        text NOT NULL CHECK (state IN ('alive', 'dead', 'gone'))
  );
  CREATE INDEX proxy_process_alive ON proxy_process (beat_at) WHERE state = 'alive';
  `,
  // The catalog. Collation C: text order is time order, whatever the database was created with.
  `
  CREATE TABLE point (
    repository     text NOT NULL,
    id             text COLLATE "C" NOT NULL,
    time           text COLLATE "C" NOT NULL,
    vm_name        text NOT NULL,
    instance_uuid  text NOT NULL,
    vcenter_uuid   text NOT NULL,
    mode           text NOT NULL CHECK (mode IN ('full', 'incremental')),
    run            text NOT NULL,
    consistency    text NOT NULL,
    total_bytes    bigint NOT NULL,
    read_bytes     bigint NOT NULL,
    stored_bytes   bigint NOT NULL,
    not_protected  bigint NOT NULL,
    PRIMARY KEY (repository, id)
  );
  CREATE INDEX point_time ON point (time DESC);
  CREATE INDEX point_vm ON point (instance_uuid, vcenter_uuid, time DESC);
  CREATE INDEX point_id ON point (id);
  `,
  // What processes of all proxies have of limits that they share, and wait for: a row a token, in the order asked.
  `
  CREATE TABLE limit_token (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bucket  text NOT NULL,
    name    text NOT NULL,
    most    bigint NOT NULL,
    holder  text NOT NULL,
    epoch   bigint NOT NULL REFERENCES proxy_process (epoch),
    held    boolean NOT NULL
  );
  CREATE INDEX limit_token_bucket ON limit_token (bucket, id);
  `,
  // How each run of each VM ended, and since when jobs know their VMs.
  `
  CREATE TABLE run (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run            text NOT NULL,
    vcenter_uuid   text NOT NULL,
    instance_uuid  text NOT NULL,
    moref          text NOT NULL,
    vm_name        text NOT NULL,
    vm_path        text NOT NULL,
    job            text,
    ended_at       text COLLATE "C" NOT NULL,
    result         text NOT NULL CHECK (result IN ('succeeded', 'failed', 'canceled')),
    record         text NOT NULL,
    UNIQUE (run, vcenter_uuid, instance_uuid)
  );
  CREATE INDEX run_ended ON run (ended_at DESC, id DESC);
  CREATE INDEX run_vm ON run (instance_uuid, vcenter_uuid, ended_at DESC);
  CREATE TABLE job_vm (
    job            text NOT NULL,
    vcenter_uuid   text NOT NULL,
    instance_uuid  text NOT NULL,
    since          text NOT NULL,
    PRIMARY KEY (job, vcenter_uuid, instance_uuid)
  );
  `,
  // What a process announces, and which proxies take nothing new.
  `
  ALTER TABLE proxy_process ADD COLUMN name text NOT NULL DEFAULT '', ADD COLUMN kind text NOT NULL DEFAULT 'command', ADD COLUMN sites text,
    ADD COLUMN transports text NOT NULL DEFAULT '';
  CREATE TABLE proxy_drain (
    name        text PRIMARY KEY,
    drained_by  text NOT NULL,
    drained_at  timestamptz NOT NULL
  );
  `,
  // The journal, and which claim has which VM.
  `
  CREATE TABLE job (
    id                   text PRIMARY KEY,
    sequence             bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    kind                 text NOT NULL,
    args                 text NOT NULL,
    owner_pid            bigint,
    owner_boot           text,
    owner_start          bigint,
    lease_until          text,
    begun_at             text COLLATE "C" NOT NULL,
    finished_at          text COLLATE "C",
    outcome              text,
    cancel_requested_at  text,
    cancel_requested_by  text,
    waits_for            text
  );
  CREATE INDEX job_unfinished ON job (sequence) WHERE finished_at IS NULL;
  CREATE INDEX job_finished ON job (sequence DESC) WHERE finished_at IS NOT NULL;
  CREATE TABLE claim (
    id           text PRIMARY KEY,
    sequence     bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    job          text NOT NULL REFERENCES job (id),
    kind         text NOT NULL,
    args         text NOT NULL,
    depends_on   text NOT NULL,
    state        text NOT NULL CHECK (state IN ('intended', 'confirmed', 'released')),
    ref          text,
    intended_at  text NOT NULL,
    released_at  text,
    kept_reason  text,
    kept_at      text,
    attempts     bigint NOT NULL DEFAULT 0
  );
  CREATE INDEX claim_open ON claim (job, sequence) WHERE state <> 'released';
  CREATE INDEX claim_job ON claim (job);
  CREATE TABLE vm_lock (
    vm        text PRIMARY KEY,
    vm_name   text NOT NULL,
    claim     text NOT NULL UNIQUE REFERENCES claim (id),
    taken_at  text NOT NULL
  );
  CREATE INDEX proxy_process_identity ON proxy_process (pid, boot, start);
  `,
  // Where a job was begun: some of what it holds can only be released there.
  `
  ALTER TABLE job ADD COLUMN host text;
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
    name   text PRIMARY KEY,
    value  text NOT NULL
  );
  `,
  // When each repository was pruned last.
  `
  CREATE TABLE repository_prune (
    repository  text PRIMARY KEY,
    pruned_at   text NOT NULL
  );
  `,
  // How far the checks of each repository are.
  `
  CREATE TABLE repository_check (
    repository  text PRIMARY KEY,
    record      text NOT NULL
  );
  `,
  // When the Object Locks of each repository were renewed last, and why not since.
  `
  CREATE TABLE repository_renewal (
    repository    text PRIMARY KEY,
    renewed_at    text,
    short_points  integer NOT NULL,
    problem       text,
    problem_at    text
  );
  `,
]
