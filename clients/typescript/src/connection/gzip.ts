/** Unzips frames with what the browser has built in. */

export function canUnzip(): boolean {
  return typeof DecompressionStream !== "undefined";
}

export async function unzip(bytes: ArrayBuffer): Promise<string> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}
