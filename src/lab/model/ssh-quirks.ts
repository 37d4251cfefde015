/** What a fault rule can make a host's shell do wrong (`ssh`), by what it strikes (`on`). */
export const SSH_QUIRKS = [
  // ssh:connect
  'otherHostKey',
  // ssh:login
  'refuse',
  // ssh:session: a connection has `value` of them at most
  'sessions',
  // ssh:exec
  'missing',
  'status',
  'busy',
  'cutInput',
] as const

export type SshQuirk = (typeof SSH_QUIRKS)[number]
