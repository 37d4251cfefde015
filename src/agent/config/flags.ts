/** What the command line overrides; the same names as the long flags. */
export type ConfigFlags = {
  readonly config?: string | undefined
  readonly vcenter?: string | undefined
  readonly user?: string | undefined
  readonly passwordFile?: string | undefined
  readonly thumbprint?: string | undefined
  readonly caFile?: string | undefined
  readonly datastore?: readonly string[] | undefined
  readonly transport?: string | undefined
  readonly restoreTransport?: string | undefined
  readonly quiesce?: string | undefined
  readonly freezeLimit?: string | undefined
  readonly windowsQuiesce?: string | undefined
  readonly spaceReserve?: string | undefined
  readonly spaceGuard?: boolean | undefined
  readonly bandwidth?: string | undefined
  readonly repo?: string | undefined
  readonly repoPasswordFile?: string | undefined
  readonly stateDir?: string | undefined
  readonly parallel?: string | undefined
  readonly compression?: string | undefined
  readonly releaseFor?: string | undefined
  readonly cancelDeadline?: string | undefined
  readonly grace?: string | undefined
  readonly changeTracking?: boolean | undefined
  readonly logFile?: string | undefined
  readonly logLevel?: string | undefined
}
