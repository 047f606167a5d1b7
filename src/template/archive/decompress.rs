//! Which compression an archive has, told from its first bytes, never from its name; and the
//! decoder for it, in this process, with a bound on the memory that the input can ask for.

use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

use super::block::{BLOCK, is_tar_block};
use super::foreign::{self, Foreign};

/// `xz -9` needs 65 MiB to decompress; larger dictionaries are refused.
const XZ_MEMORY: u64 = 128 << 20;
/// 128 MiB, what `zstd --ultra -22` and `--long=27` use.
const ZSTD_WINDOW_LOG: u32 = 27;
const INPUT_BUFFER: usize = 128 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Tar,
    Gzip,
    Xz,
    Zstd,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tar => "tar",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    #[error("cannot read the start of the archive")]
    Read(#[source] io::Error),
    #[error("not a tar archive, nor one compressed with gzip, xz or zstd")]
    NotAnArchive,
    #[error("{0}, not a tar archive, nor one compressed with gzip, xz or zstd")]
    Foreign(&'static Foreign),
    #[error("cannot set up the {format} decoder")]
    Decoder { format: Format, source: io::Error },
}

/// The uncompressed bytes of `input`. Streams of several gzip members, xz streams or zstd frames
/// are read to the last one. That a plain or compressed stream holds a sound tar archive is for
/// its reader to find out.
pub fn open<'a>(mut input: impl Read + 'a) -> Result<(Format, Box<dyn Read + 'a>), DecompressError> {
    let mut start = Vec::with_capacity(BLOCK);
    input.by_ref().take(BLOCK as u64).read_to_end(&mut start).map_err(DecompressError::Read)?;
    let Some(format) = sniff(&start) else {
        return Err(
            foreign::recognise(&start).map_or(DecompressError::NotAnArchive, DecompressError::Foreign)
        );
    };
    let whole = Cursor::new(start).chain(input);
    let failed = |source| DecompressError::Decoder { format, source };

    let reader: Box<dyn Read + 'a> = match format {
        Format::Tar => Box::new(whole),
        Format::Gzip => Box::new(Members::new(BufReader::with_capacity(INPUT_BUFFER, whole))),
        Format::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)
                .map_err(|e| failed(io::Error::from(e)))?;
            Box::new(XzDecoder::new_stream(BufReader::with_capacity(INPUT_BUFFER, whole), stream))
        }
        Format::Zstd => {
            let mut decoder = zstd::Decoder::new(whole).map_err(failed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(failed)?;
            Box::new(decoder)
        }
    };
    Ok((format, reader))
}

/// The members of a gzip stream, up to the zeros that fill up the blocks of a tape or a disk.
struct Members<R> {
    /// None at the end.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    fn new(input: R) -> Self {
        Self { member: Some(GzDecoder::new(input)) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            let Some(mut input) = self.member.take().map(GzDecoder::into_inner) else { break };
            match input.fill_buf()?.first() {
                None => break,
                Some(0) => return only_zeros(&mut input).map(|()| 0),
                Some(_) => self.member = Some(GzDecoder::new(input)),
            }
        }
        Ok(0)
    }
}

fn only_zeros(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = input.fill_buf()?;
        if bytes.iter().any(|&byte| byte != 0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "something follows the end of gzip's data",
            ));
        }
        let length = bytes.len();
        if length == 0 {
            return Ok(());
        }
        input.consume(length);
    }
}

fn sniff(start: &[u8]) -> Option<Format> {
    match start {
        [0x1f, 0x8b, ..] => Some(Format::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Format::Xz),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Format::Zstd),
        // A skippable frame (RFC 8878, 3.1.2): what pzstd begins with.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Format::Zstd),
        _ => is_tar_block(start).then_some(Format::Tar),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn plain() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        tar.append_data(&mut header, "file", &b"hello"[..]).unwrap();
        tar.into_inner().unwrap()
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(data: &[u8], preset: u32) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), preset);
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn read_all(data: &[u8]) -> (Format, io::Result<Vec<u8>>) {
        let (format, mut reader) = open(data).unwrap();
        let mut out = Vec::new();
        (format, reader.read_to_end(&mut out).map(|_| out))
    }

    #[test]
    fn each_format_is_found_by_content() {
        let tar = plain();
        for (data, expected) in [
            (tar.clone(), Format::Tar),
            (gzip(&tar), Format::Gzip),
            (xz(&tar, 9), Format::Xz),
            (zstd::encode_all(&tar[..], 3).unwrap(), Format::Zstd),
        ] {
            let (format, out) = read_all(&data);
            assert_eq!(format, expected);
            assert_eq!(out.unwrap(), tar);
        }
    }

    #[test]
    fn streams_of_several_parts_are_read_to_the_end() {
        let tar = plain();
        let (head, tail) = tar.split_at(700);
        for data in [
            [gzip(head), gzip(tail)].concat(),
            [xz(head, 1), xz(tail, 1)].concat(),
            [zstd::encode_all(head, 1).unwrap(), zstd::encode_all(tail, 1).unwrap()].concat(),
            [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9][..], &zstd::encode_all(&tar[..], 1).unwrap()]
                .concat(),
        ] {
            assert_eq!(read_all(&data).1.unwrap(), tar);
        }
    }

    #[test]
    fn zeros_after_gzip_fill_up_a_tape() {
        let tar = plain();
        let twice = [gzip(&tar), gzip(&tar)].concat();
        for zeros in [1, 511, 300_000] {
            let data = [&twice[..], &vec![0; zeros]].concat();
            assert_eq!(read_all(&data).1.unwrap(), [&tar[..], &tar].concat());
            let more = [&data[..], b"x"].concat();
            assert!(read_all(&more).1.is_err());
        }
    }

    #[test]
    fn truncated_streams_are_errors() {
        let tar = plain();
        for data in [gzip(&tar), xz(&tar, 6), zstd::encode_all(&tar[..], 3).unwrap()] {
            for cut in 1..data.len().min(60) {
                assert!(
                    open(&data[..data.len() - cut]).is_err()
                        || read_all(&data[..data.len() - cut]).1.is_err()
                );
            }
        }
    }

    #[test]
    fn damage_inside_a_stream_is_an_error() {
        let tar = plain();
        for mut data in [gzip(&tar), xz(&tar, 6)] {
            let last = data.len() - 6;
            data[last] ^= 0x55;
            assert!(read_all(&data).1.is_err());
        }
    }

    #[test]
    fn xz_may_not_ask_for_a_large_dictionary() {
        let mut options = liblzma::stream::LzmaOptions::new_preset(6).unwrap();
        options.dict_size(512 << 20);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        // The decoder's need is read from the block header; it is declared without being used.
        let mut data = xz(&plain(), 6);
        let property = data.windows(2).position(|w| w == [0x21, 0x01]).unwrap() + 2;
        data[property] = 40; // 4 GiB - 1
        let header_size = (usize::from(data[12]) + 1) * 4;
        let crc_at = 12 + header_size - 4;
        let mut crc = flate2::Crc::new();
        crc.update(&data[12..crc_at]);
        data[crc_at..crc_at + 4].copy_from_slice(&crc.sum().to_le_bytes());
        let error = read_all(&data).1.unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }

    #[test]
    fn zstd_may_not_ask_for_a_large_window() {
        // Magic, a frame header with a window descriptor of 2^41 bytes, an empty last block.
        let data = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 31 << 3, 0x01, 0x00, 0x00];
        assert!(read_all(&data).1.is_err());
        let fine = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (27 - 10) << 3, 0x01, 0x00, 0x00];
        assert!(read_all(&fine).1.unwrap().is_empty());
    }

    #[test]
    fn what_is_no_archive_is_said_to_be_none() {
        for data in [&b""[..], b"#!/bin/sh\necho\n", &[b'x'; 4096], &[0; 100]] {
            assert!(matches!(open(data), Err(DecompressError::NotAnArchive)));
        }
        assert!(matches!(open(&b"PK\x03\x04"[..]), Err(DecompressError::Foreign(_))));
        assert_eq!(open(&[0; 1024][..]).unwrap().0, Format::Tar);
    }
}
