import { createHash, createHmac, type Hash, type Hmac } from 'node:crypto'
import type { S3Credentials } from './credentials.ts'

/** Headers of a request under which it is accepted: `authorization` and those it names. */
export type SignedHeaders = Readonly<Record<string, string>>

export type Signable = {
  readonly method: string
  readonly protocol: string
  readonly hostname: string
  readonly port: number | undefined
  /** As it is sent: every name percent-encoded. */
  readonly path: string
  readonly query: Readonly<Record<string, string>>
  readonly headers: Readonly<Record<string, string>>
  /** SHA-256 of the body, in hex. The server compares. */
  readonly bodySha256: string
}

/** AWS's own signer (Signature Version 4), loaded when the first repository in a bucket is opened. */
export async function createSigner(
  region: string,
  credentials: () => Promise<S3Credentials>,
): Promise<(request: Signable, now: Date) => Promise<SignedHeaders>> {
  const { SignatureV4 } = await import('@smithy/signature-v4')
  const signer = new SignatureV4({
    service: 's3',
    region,
    credentials: async () => {
      const { accessKeyId, secretAccessKey, sessionToken } = await credentials()
      return {
        accessKeyId,
        secretAccessKey: secretAccessKey.reveal(),
        ...(sessionToken === undefined ? {} : { sessionToken: sessionToken.reveal() }),
      }
    },
    sha256: Sha256,
    uriEscapePath: false,
  })
  return async ({ bodySha256, headers, query, port, ...request }, now) => {
    const unsigned = {
      ...request,
      query: { ...query },
      headers: { ...headers, 'x-amz-content-sha256': bodySha256 },
      ...(port === undefined ? {} : { port }),
    }
    return (await signer.sign(unsigned, { signingDate: now })).headers
  }
}

/** As the signer wants its hash: keyed, an HMAC. */
class Sha256 {
  readonly #hash: Hash | Hmac

  constructor(key?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash = key === undefined ? createHash('sha256') : createHmac('sha256', bytesOf(key))
  }

  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(bytesOf(data))
  }

  async digest(): Promise<Uint8Array> {
    return this.#hash.digest()
  }

  reset(): void {
    throw new Error('A hash of the signer is used once.')
  }
}

const bytesOf = (data: string | ArrayBuffer | ArrayBufferView): string | Uint8Array =>
  typeof data === 'string'
    ? data
    : ArrayBuffer.isView(data)
      ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
      : new Uint8Array(data)
