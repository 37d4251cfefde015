import { AgentError } from '../core/index.ts'

/**
 * What a program on a host says of a file, by errno or by the words of its message. On VMFS a file that another host or a running VM has open is
 * "Device or resource busy" (EBUSY).
 */
export function hostFileError(host: string, path: string, errno: number, text: string): AgentError {
  const said = `${host}: ${text.trim().replaceAll(/\s+/g, ' ').slice(0, 300) || 'no reason given'}`
  const subject = path
  if (errno === 2 || errno === 20 || /no such file|not a directory/i.test(text))
    return new AgentError('NOT_FOUND', `${path} does not exist (${said}).`, { subject })
  if (errno === 16 || errno === 11 || /resource busy|temporarily unavailable/i.test(text)) {
    return new AgentError('CONFLICT', `${path} cannot be read: the host has it locked (${said}).`, {
      subject,
      next: 'Some ESXi releases lock the files of a running VM against their own shell; use another transport for it.',
      retry: 'later',
    })
  }
  if (errno === 13 || errno === 1 || /permission denied|not permitted/i.test(text)) {
    return new AgentError('AUTH', `${path} may not be read by this user (${said}).`, { subject, next: 'Log in to the host as root.' })
  }
  if (errno === 28 || /no space left/i.test(text))
    return new AgentError('CAPACITY', `No space is left to write ${path} (${said}).`, { subject })
  if (/file ends at byte/i.test(text)) {
    return new AgentError('INTEGRITY', `${path} ends before the bytes that were asked for (${said}).`, {
      subject,
      next: 'The file was cut or belongs to another disk; take a new snapshot and run the backup again.',
    })
  }
  return new AgentError('UNAVAILABLE', `The host could not read or write ${path} (${said}).`, { subject })
}

/** A program that was asked for is not on the host: the shell's status 127, or 126 for one that may not be run. */
export const isMissingProgram = (status: number | undefined): boolean => status === 127 || status === 126
