/** What VMware Tools tell VSS in a Windows guest (VirtualMachineWindowsQuiesceSpec, API 6.5); the server's own choice for what is absent. */
export type WindowsQuiesce = {
  /** `auto`: a file-share backup where a full one cannot be (ctx_auto); `backup`: writers take part (ctx_backup); `file-share`: none does (ctx_file_share_backup). */
  readonly context?: (typeof VSS_CONTEXTS)[number] | undefined
  readonly backupType?: (typeof VSS_BACKUP_TYPES)[number] | undefined
  /** Whether the system state can be booted from it. */
  readonly bootableSystemState?: boolean | undefined
  /** Whether writers may take only parts of files. */
  readonly partialFileSupport?: boolean | undefined
}

export const VSS_CONTEXTS = ['auto', 'backup', 'file-share'] as const

/** In the order of VSS_BACKUP_TYPE (vss.h), which begins with 1 for full. */
export const VSS_BACKUP_TYPES = ['full', 'incremental', 'differential', 'log', 'copy'] as const
