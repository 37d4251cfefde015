/**
 * The shells of the lab's hosts: an SSH server each, for root, that runs the few commands a backup uses on the lab's real datastore files.
 *
 * `dd`, `cat`, `stat` and `vim-cmd vmsvc/…` are the lab's own; `python3` is this machine's, given the host's files only. A line that is more than a
 * simple command is refused. Rules strike `ssh:connect`, `ssh:login` and `ssh:exec` (docs/lab-scenario.md).
 */
export { labKey, type LabKey } from './host-keys.ts'
export { serveSsh, type SshServer } from './ssh-server.ts'
