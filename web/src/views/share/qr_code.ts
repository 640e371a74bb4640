/** Bytes that the largest QR code (version 40, lowest error correction) holds; a link is ASCII. */
export const longestInQr = 2953;
