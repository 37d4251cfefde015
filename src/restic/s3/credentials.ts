import { AgentError, type Secret, Secret as SecretValue } from '../../core/index.ts'

/** A key pair; `sessionToken` for one that was lent for some time. */
export type S3Credentials = { readonly accessKeyId: string; readonly secretAccessKey: Secret; readonly sessionToken?: Secret | undefined }

/**
 * The key pair of a profile in a credentials file of the AWS command line: sections `[NAME]`, lines `KEY = VALUE`, comments with # or ;. Of a
 * configuration file the sections are called `[profile NAME]`. NOT_FOUND when there is no such profile, CONFIG when it has no keys.
 */
export function readProfile(text: string, profile: string, path: string): S3Credentials {
  const values = new Map<string, string>()
  let found = false
  let inside = false
  for (const line of text.split(/\r?\n/u)) {
    const section = /^\s*\[\s*(?:profile\s+)?([^\]]+?)\s*\]/u.exec(line)?.[1]
    if (section !== undefined) {
      inside = section === profile
      found ||= inside
      continue
    }
    const [, key, value] = /^([A-Za-z_]+)\s*=\s*(.*?)\s*$/u.exec(line) ?? []
    if (inside && key !== undefined && value !== undefined) values.set(key.toLowerCase(), value)
  }
  if (!found)
    throw new AgentError('NOT_FOUND', `${path} has no profile ${profile}.`, { subject: path, next: 'Name one that is there, or add it.' })
  const [accessKeyId, secret, token] = ['aws_access_key_id', 'aws_secret_access_key', 'aws_session_token'].map((key) => values.get(key))
  if (accessKeyId === undefined || accessKeyId === '' || secret === undefined || secret === '') {
    throw new AgentError('CONFIG', `The profile ${profile} of ${path} holds no key pair.`, {
      subject: path,
      next: 'Write aws_access_key_id and aws_secret_access_key into it; other ways to log in are not read.',
    })
  }
  return Object.freeze({
    accessKeyId,
    secretAccessKey: new SecretValue(secret),
    ...(token === undefined || token === '' ? {} : { sessionToken: new SecretValue(token) }),
  })
}
