/** One metric of Prometheus' text format (exposition format 0.0.4): prometheus.io/docs/instrumenting/exposition_formats. */
export type Metric = {
  readonly name: string
  readonly type: 'gauge' | 'counter'
  readonly help: string
  readonly samples: readonly (readonly [labels: Readonly<Record<string, string>>, value: number])[]
}

/** Label values of strangers (VM names) are cut to this, characters. */
const LONGEST_LABEL = 200

/** Nothing for a metric without samples. Of samples with the same labels, which a scraper would refuse altogether, the last one counts. */
export function formatMetric({ name, type, help, samples }: Metric): string {
  const lines = new Map(samples.map(([labels, value]) => [`${name}${formatLabels(labels)}`, formatValue(value)]))
  if (lines.size === 0) return ''
  const body = [...lines].map(([series, value]) => `${series} ${value}\n`).join('')
  return `# HELP ${name} ${help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}\n# TYPE ${name} ${type}\n${body}`
}

function formatLabels(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

/** Well-formed, since half a surrogate pair is no UTF-8 and spoils the whole scrape. */
const escapeLabel = (value: string): string =>
  value.slice(0, LONGEST_LABEL).toWellFormed().replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')

const formatValue = (value: number): string =>
  value === Number.POSITIVE_INFINITY ? '+Inf' : value === Number.NEGATIVE_INFINITY ? '-Inf' : Number.isNaN(value) ? 'NaN' : String(value)
