/** Names of the secrets that are in some bytes, as they are or as something encodes them. */
export function secretFinder(secrets: Readonly<Record<string, string>>): (data: Buffer) => readonly string[] {
  const wanted = Object.entries(secrets).map(([name, secret]) => ({ name, disguises: [...new Set(disguisesOf(secret))] }))
  return (data) => {
    const text = data.toString('utf8')
    const lower = text.toLowerCase()
    return wanted
      .filter(({ disguises }) => disguises.some((each) => (/^[0-9a-f]+$/.test(each) ? lower : text).includes(each)))
      .map(({ name }) => name)
  }
}

function disguisesOf(secret: string): readonly string[] {
  const bytes = Buffer.from(secret)
  const xml = secret.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
  return [
    secret,
    encodeURIComponent(secret),
    encodeURI(secret),
    JSON.stringify(secret).slice(1, -1),
    xml,
    bytes.toString('hex'),
    ...[0, 1, 2].flatMap((offset) => {
      // Wherever it begins in what is encoded: the characters that its neighbours have no part in.
      const encoded = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64')
      const own = encoded.slice(Math.ceil((offset * 4) / 3), Math.floor(((offset + bytes.length) * 4) / 3) - 1)
      return [own, own.replaceAll('+', '-').replaceAll('/', '_')]
    }),
  ]
}
