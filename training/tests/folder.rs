//! Folders of pictures as people have them.

mod common;

use std::fs;
use std::io::Cursor;
use std::path::Path;

use common::jpeg::Jpeg;
use common::program::{refuse, succeed};
use common::{folder, png_bytes, with_png_size, write_run};
use ddpm_train::config::DataConfig;
use ddpm_train::data::Dataset;
use ddpm_train::data::augment::View;
use ddpm_train::data::config::{Color, Filter, Fit, OnBadFile};
use ddpm_train::loss_log::read_losses;
use image::{DynamicImage, Frame, GenericImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use png::{BitDepth, ColorType};

/// A picture of one colour.
fn plain(width: u32, height: u32, pixel: [u8; 4]) -> RgbaImage {
    RgbaImage::from_pixel(width, height, Rgba(pixel))
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn gray_png(value: u8) -> Vec<u8> {
    png_bytes((1, 1), ColorType::Grayscale, BitDepth::Eight, &[value], |_| {})
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The bytes of an image, back from [-1, 1].
fn image(data: &Dataset, index: usize, item: usize) -> Vec<u8> {
    let mut values = vec![f32::NAN; item];
    data.copy_image(index, View::default(), &mut values);
    values.into_iter().map(ddpm::image::to_byte).collect()
}

/// The first values of the images of a folder, as 1x1.
fn reds(folder: &Path) -> Vec<u8> {
    let data = Dataset::read(&DataConfig::folder(folder, 1, 1)).unwrap();
    (0..data.len()).map(|i| image(&data, i, 3)[0]).collect()
}

#[track_caller]
fn refused(config: &DataConfig) -> String {
    let Err(error) = Dataset::read(config) else { panic!("read where an error was expected") };
    format!("{error:#}")
}

#[test]
fn folders_are_read_to_the_bottom_in_natural_order_without_hidden_files() {
    let folder = folder("folder_order");
    for (name, value) in [
        ("2.png", 2),
        ("10.jpg", 10),
        ("B/1/x.PNG", 20),
        ("a/z.png", 12),
        ("a/Z2", 13),
        ("c.gif", 30),
    ] {
        // The name says nothing about the format.
        write(&folder.join(name), gray_png(value));
    }
    for name in [".DS_Store", "._2.png", "Thumbs.db", "a/.x/1.png", "__MACOSX/2.png", "Desktop.ini"]
    {
        write(&folder.join(name), gray_png(99));
    }
    fs::create_dir(folder.join("empty")).unwrap();
    assert_eq!(reds(&folder), [2, 10, 12, 13, 20, 30]);
}

#[test]
fn tiles_as_files_are_the_images_of_their_sheet() {
    let folder = folder("folder_tiles");
    common::write_sheet(&folder.join("sheet.png"), 12);
    let sheet = image::open(folder.join("sheet.png")).unwrap();
    for tile in 0..12 {
        let bytes = encode(sheet.crop_imm(tile * 8, 0, 8, 8), ImageFormat::Png);
        write(&folder.join(format!("tiles/{tile}.png")), bytes);
    }
    let images = |config| Dataset::read(&config).unwrap().fingerprint();
    let tiles = images(DataConfig::folder(folder.join("tiles"), 8, 8));
    assert_eq!(tiles, images(DataConfig::sheet(folder.join("sheet.png"), 8, 8)));
    fs::remove_file(folder.join("tiles/11.png")).unwrap();
    assert_ne!(tiles, images(DataConfig::folder(folder.join("tiles"), 8, 8)));
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_circles_end() {
    use std::os::unix::fs::symlink;
    let elsewhere = folder("folder_links_elsewhere");
    write(&elsewhere.join("deep/5.png"), gray_png(5));
    let folder = folder("folder_links");
    write(&folder.join("1.png"), gray_png(1));
    symlink(elsewhere.join("deep/5.png"), folder.join("2.png")).unwrap();
    symlink(&elsewhere, folder.join("3")).unwrap();
    symlink(&folder, folder.join("4")).unwrap();
    symlink(&folder, elsewhere.join("back")).unwrap();
    symlink("nothing", folder.join("6.png")).unwrap();
    symlink("/dev/zero", folder.join("7.png")).unwrap();
    assert_eq!(reds(&folder), [1, 5, 5]);
    let data = Dataset::read(&DataConfig::folder(&folder, 1, 1)).unwrap();
    let note = &data.notes()[0];
    assert!(note.contains("6.png: cannot open it") && note.contains("7.png: not a file"), "{note}");
}

#[test]
fn every_kind_of_picture_becomes_rgb_on_the_background() {
    use BitDepth::{Eight, One, Sixteen};
    let png = |color, depth, data: &[u8]| png_bytes((1, 1), color, depth, data, |_| {});
    let palette = |index: u8| {
        png_bytes((1, 1), ColorType::Indexed, Eight, &[index], |encoder| {
            encoder.set_palette(vec![9, 8, 7, 250, 100, 50, 1, 2, 3]);
            encoder.set_trns(vec![0, 128]);
        })
    };
    let keyed = png_bytes((1, 1), ColorType::Grayscale, Eight, &[7], |e| e.set_trns(vec![0, 7]));
    let rgb = RgbImage::from_pixel(2, 2, Rgb([10, 200, 30]));
    let half = plain(2, 2, [0, 0, 255, 128]);
    let jpeg = |adobe, values: &[u8]| Jpeg { adobe, orientation: None }.row(&[values]);
    // On white: a value v with alpha a becomes v a / 255 + 255 - a.
    let cases: [(&str, Vec<u8>, [u8; 3]); 21] = [
        ("gray", gray_png(77), [77; 3]),
        ("1 bit", png(ColorType::Grayscale, One, &[0x80]), [255; 3]),
        ("16 bit", png(ColorType::Grayscale, Sixteen, &[128, 0]), [128; 3]),
        ("gray, alpha", png(ColorType::GrayscaleAlpha, Eight, &[200, 51]), [244; 3]),
        ("gray, key", keyed, [255; 3]),
        ("rgb", png(ColorType::Rgb, Eight, &[1, 2, 3]), [1, 2, 3]),
        ("rgba", png(ColorType::Rgba, Eight, &[0, 100, 255, 51]), [204, 224, 255]),
        ("rgba 16", png(ColorType::Rgba, Sixteen, &[0, 0, 0, 0, 0, 0, 255, 255]), [0; 3]),
        ("palette, clear", palette(0), [255; 3]),
        ("palette, half", palette(1), [252, 177, 152]),
        ("palette, solid", palette(2), [1, 2, 3]),
        ("gif", encode(plain(2, 2, [0; 4]), ImageFormat::Gif), [255; 3]),
        ("bmp", encode(rgb.clone(), ImageFormat::Bmp), [10, 200, 30]),
        ("sprite.tga", encode(half.clone(), ImageFormat::Tga), [127, 127, 255]),
        ("webp", encode(half, ImageFormat::WebP), [127, 127, 255]),
        ("webp, solid", encode(rgb, ImageFormat::WebP), [10, 200, 30]),
        ("jpeg, gray", jpeg(None, &[90]), [90; 3]),
        // BT.601: 76 + 1.402 * 127 = 254, 76 - 0.344 * -43 - 0.714 * 127 = 0, 76 + 1.772 * -43 = 0.
        ("jpeg, ycc", jpeg(None, &[76, 85, 255]), [254, 0, 0]),
        ("jpeg, rgb", jpeg(Some(0), &[10, 200, 30]), [10, 200, 30]),
        // Adobe's files hold the paper that shows, not the ink: cyan and black 255 are none.
        ("jpeg, cmyk", jpeg(Some(0), &[255, 0, 0, 255]), [255, 0, 0]),
        ("jpeg, ycck", jpeg(Some(2), &[179, 171, 1, 255]), [255, 0, 0]),
    ];
    let folder = folder("folder_kinds");
    for (i, (name, bytes, _)) in cases.iter().enumerate() {
        write(&folder.join(format!("all/{i} {name}")), bytes);
    }
    let all = Dataset::read(&DataConfig::folder(folder.join("all"), 1, 1)).unwrap();
    assert_eq!(all.len(), cases.len());
    for (i, (name, bytes, expected)) in cases.into_iter().enumerate() {
        write(&folder.join("here").join(name), bytes);
        let data = Dataset::read(&DataConfig::folder(folder.join("here"), 1, 1)).unwrap();
        let found = image(&data, 0, 3);
        assert_eq!(image(&all, i, 3), found, "{name}");
        // Two for the rounding of JPEG's colour transform, 0 for all that has none.
        let slack = if name.contains("yc") { 2 } else { 0 };
        assert!(
            found.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= slack),
            "{name}: {found:?}, expected {expected:?}"
        );
        fs::remove_dir_all(folder.join("here")).unwrap();
    }
}

/// A PNG of two frames, and of a picture before them that is none where `separate`.
fn apng(separate: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
    encoder.set_color(ColorType::Rgb);
    encoder.set_animated(2, 0).unwrap();
    encoder.set_sep_def_img(separate).unwrap();
    let mut writer = encoder.write_header().unwrap();
    if separate {
        writer.write_image_data(&[0, 0, 255]).unwrap();
    }
    writer.write_image_data(&[255, 0, 0]).unwrap();
    writer.write_image_data(&[0, 255, 0]).unwrap();
    writer.finish().unwrap();
    bytes
}

/// A WebP of a frame for each colour: the container of Google's "WebP Container Specification".
fn animated_webp(frames: &[[u8; 4]]) -> Vec<u8> {
    let chunk = |name: &[u8], body: &[u8]| {
        let size = (body.len() as u32).to_le_bytes();
        [name, &size, body, &[0][..body.len() % 2]].concat()
    };
    // Two by two pixels, all numbers little-endian and less 1; the second byte says "animation".
    let mut body = b"WEBP".to_vec();
    body.extend(chunk(b"VP8X", &[0x12, 0, 0, 0, 1, 0, 0, 1, 0, 0]));
    body.extend(chunk(b"ANIM", &[0; 6]));
    for &pixel in frames {
        let still = encode(plain(2, 2, pixel), ImageFormat::WebP);
        let start = still.windows(4).position(|w| w == b"VP8L").unwrap();
        // The last byte: drawn in place of what was there, not blended over it.
        let frame = [0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 40, 0, 0, 2];
        body.extend(chunk(b"ANMF", &[&frame, &still[start..]].concat()));
    }
    chunk(b"RIFF", &body)
}

#[test]
fn of_an_animation_the_first_frame_is_taken_and_of_a_png_its_still_picture() {
    let (red, green) = ([255, 0, 0, 255], [0, 255, 0, 255]);
    let mut gif = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
    for pixel in [red, green] {
        encoder.encode_frame(Frame::new(plain(2, 2, pixel))).unwrap();
    }
    drop(encoder);
    let folder = folder("folder_animations");
    write(&folder.join("1.gif"), gif);
    write(&folder.join("2.webp"), animated_webp(&[red, green]));
    write(&folder.join("3.png"), apng(false));
    // The picture that programs show which know no animation.
    write(&folder.join("4.png"), apng(true));
    let data = Dataset::read(&DataConfig::folder(&folder, 1, 1)).unwrap();
    let images: Vec<_> = (0..data.len()).map(|i| image(&data, i, 3)).collect();
    assert_eq!(images, [[255, 0, 0], [255, 0, 0], [255, 0, 0], [0, 0, 255]]);
}

#[test]
fn sixteen_bit_ramp_has_mean_zero() {
    let folder = folder("folder_ramp");
    let ramp: Vec<u8> = (0..64u32).flat_map(|i| ((i * 65535 / 63) as u16).to_be_bytes()).collect();
    let bytes = png_bytes((8, 8), ColorType::Grayscale, BitDepth::Sixteen, &ramp, |_| {});
    write(&folder.join("ramp.png"), bytes);
    let data = Dataset::read(&DataConfig::folder(&folder, 8, 8)).unwrap();
    let mut values = [0.0; 192];
    data.copy_image(0, View::default(), &mut values);
    let mean = values.iter().sum::<f32>() / 192.0;
    // Half a byte is 0.004, and the roundings of a ramp cancel.
    assert!(mean.abs() < 0.004, "mean {mean}");
}

#[test]
fn exif_orientation_is_applied_before_the_size() {
    let folder = folder("folder_orientation");
    // Left half 40, right half 200; what is at top left and at bottom right when it is upright.
    for (orientation, size, expected) in [
        (1, (2, 1), [40, 200]),
        (3, (2, 1), [200, 40]),
        (6, (1, 2), [40, 200]),
        (8, (1, 2), [200, 40]),
    ] {
        let jpeg = Jpeg { orientation: Some(orientation), adobe: None };
        write(&folder.join("a.jpg"), jpeg.row(&[&[40], &[200]]));
        let config = DataConfig::folder(&folder, size.0 * 8, size.1 * 8);
        let data = Dataset::read(&DataConfig { fit: Some(Fit::Exact), ..config }).unwrap();
        let pixels = image(&data, 0, 16 * 8 * 3);
        let corners = [pixels[0], pixels[16 * 8 * 3 - 1]];
        assert_eq!(corners, expected, "orientation {orientation}");
    }
}

#[test]
fn bad_files_are_named_with_their_reasons_and_skipped_or_fatal() {
    let noise = |width: u32| {
        RgbImage::from_fn(width, 48, |x, y| {
            let byte = |i: u32| ((x * 3 + y * 1009 + i).wrapping_mul(2654435761) >> 24) as u8;
            Rgb([byte(0), byte(1), byte(2)])
        })
    };
    let whole = |format| encode(noise(48), format);
    let cut = |bytes: &[u8]| bytes[..bytes.len() * 6 / 10].to_vec();
    let flipped = |mut bytes: Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        bytes
    };
    let mut gif = whole(ImageFormat::Gif);
    gif[6..10].copy_from_slice(&[0xff, 0x7f, 0xff, 0x7f]);
    let mut jpeg = Jpeg::default().row(&[&[9]]);
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xf0, 0xff, 0xf0]);
    let damaged = "damaged or cut short";
    let cases: [(&str, Vec<u8>, &str); 19] = [
        ("cut.jpg", cut(&whole(ImageFormat::Jpeg)), damaged),
        // A thumbnail's end inside a segment is not the picture's.
        (
            "thumb.jpg",
            [
                &[0xff, 0xd8, 0xff, 0xe2, 0, 6, 0, 0, 0xff, 0xd9][..],
                &cut(&whole(ImageFormat::Jpeg))[2..],
            ]
            .concat(),
            damaged,
        ),
        ("cut.png", cut(&whole(ImageFormat::Png)), damaged),
        ("crc.png", flipped(whole(ImageFormat::Png)), damaged),
        ("cut.webp", cut(&whole(ImageFormat::WebP)), damaged),
        ("cut.gif", cut(&whole(ImageFormat::Gif)), damaged),
        ("cut.bmp", cut(&whole(ImageFormat::Bmp)), damaged),
        ("cut.tga", cut(&whole(ImageFormat::Tga)), damaged),
        ("header.png", whole(ImageFormat::Png)[..20].to_vec(), damaged),
        ("empty.png", Vec::new(), "the file is empty"),
        ("text.png", b"a text with another name".to_vec(), "not a picture"),
        ("text.tga", b"a text with another name".to_vec(), ""),
        ("notes.txt", b"a text".to_vec(), "not a picture"),
        ("scan.tif", b"II*\0\x08\0\0\0".to_vec(), "a picture of the format Tiff"),
        ("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0".to_vec(), "a picture of the format HEIC"),
        (
            "huge.png",
            with_png_size(&gray_png(1), 60000, 60000),
            "60000x60000 pixels, expected at most 16384",
        ),
        (
            "large.png",
            with_png_size(&whole(ImageFormat::Png), 16384, 16384),
            "16384x16384 pixels take 768 MiB, expected at most 256",
        ),
        ("huge.gif", gif, "32767x32767 pixels"),
        ("huge.jpg", jpeg, "65520x65520 pixels"),
    ];
    let folder = folder("folder_bad");
    let count = cases.len();
    for (name, bytes, _) in &cases {
        write(&folder.join("sub").join(name), bytes);
    }
    let config =
        DataConfig { on_bad_file: Some(OnBadFile::Fail), ..DataConfig::folder(&folder, 1, 1) };
    let none_left = refused(&DataConfig::folder(&folder, 1, 1));
    assert!(
        none_left.contains("no picture") && none_left.contains(&format!("{count} files")),
        "{none_left}"
    );
    // A whole picture with bytes behind its end is a good one; it comes after all the bad ones.
    write(&folder.join("whole.jpg"), [Jpeg::default().row(&[&[33]]), vec![7; 9]].concat());
    let data = Dataset::read(&DataConfig::folder(&folder, 1, 1)).unwrap();
    assert_eq!((data.len(), image(&data, 0, 3)), (1, vec![33; 3]));
    let fatal = refused(&config);
    for (name, _, reason) in &cases {
        let named = |text: &str| text.lines().any(|l| l.contains(name) && l.contains(reason));
        for text in [&none_left, &data.notes()[0], &fatal] {
            assert!(named(text), "{name}: {reason:?} is not in {text}");
        }
    }
    assert!(data.notes()[0].contains(&format!("{count} of {} cannot be used", count + 1)));
}

#[test]
fn jpeg_cut_anywhere_is_found() {
    let folder = folder("folder_cut");
    let whole = Jpeg::default().row(&[&[1, 2, 3], &[200, 90, 10]]);
    for end in 0..whole.len() {
        write(&folder.join(format!("{end}.jpg")), &whole[..end]);
    }
    write(&folder.join("whole.jpg"), &whole);
    assert_eq!(Dataset::read(&DataConfig::folder(&folder, 1, 1)).unwrap().len(), 1);
}

#[test]
fn folders_without_a_picture_are_refused_by_name() {
    let folder = folder("folder_none");
    let config = |name: &str| DataConfig::folder(folder.join(name), 1, 1);
    write(&folder.join("hidden/.a.png"), gray_png(1));
    write(&folder.join("file.png"), gray_png(1));
    fs::create_dir(folder.join("empty")).unwrap();
    for (name, parts) in [
        ("empty", &["no picture", "found no file"][..]),
        ("hidden", &["no picture", "found no file and 1 hidden"]),
        ("missing", &["cannot open the folder"]),
        ("file.png", &["is a file, expected a folder"]),
    ] {
        let message = refused(&config(name));
        assert!(message.contains(name), "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    let message =
        refused(&DataConfig { memory_mib: Some(1), ..DataConfig::folder(&folder, 1024, 1024) });
    assert!(message.contains("1 images as 1024x1024 pixels take 3 MiB"), "{message}");
}

#[test]
fn pictures_of_other_sizes_are_cropped_padded_stretched_or_refused() {
    let folder = folder("folder_sizes");
    // 8x4: black, red and green columns; the middle half is red.
    let mut wide = RgbImage::new(8, 4);
    for y in 0..4 {
        (2..6).for_each(|x| wide.put_pixel(x, y, Rgb([200, 0, 0])));
        (6..8).for_each(|x| wide.put_pixel(x, y, Rgb([0, 100, 0])));
    }
    write(&folder.join("wide.png"), encode(wide, ImageFormat::Png));
    let (red, green, black, blue) = ([200, 0, 0], [0, 100, 0], [0, 0, 0], [0, 0, 255]);
    let read = |width, height, fit, filter| {
        let config = DataConfig {
            fit: Some(fit),
            filter: Some(filter),
            background: Some(Color(blue)),
            ..DataConfig::folder(&folder, width, height)
        };
        let data = Dataset::read(&config).unwrap();
        let (pixels, rest) = (image(&data, 0, width * height * 3), data.notes().to_vec());
        (pixels.as_chunks::<3>().0.to_vec(), rest)
    };
    // The middle square, all red, by every filter.
    for filter in [Filter::Triangle, Filter::Lanczos, Filter::Nearest] {
        assert_eq!(read(2, 2, Fit::Crop, filter).0, [red; 4], "{filter:?}");
    }
    let nearest = |width, height, fit| read(width, height, fit, Filter::Nearest).0;
    assert_eq!(nearest(4, 1, Fit::Stretch), [black, red, red, green]);
    let row = [black, red, red, green];
    assert_eq!(nearest(4, 4, Fit::Pad), [[blue; 4], row, row, [blue; 4]].concat());
    assert_eq!(nearest(8, 4, Fit::Exact).len(), 32);
    // In the middle, as it is.
    let (pixels, notes) = read(10, 7, Fit::Center, Filter::Triangle);
    assert_eq!(
        (&pixels[..10], &pixels[10..21]),
        (&[blue; 10][..], &[blue, black, black, red, red, red, red, green, green, blue, blue,][..])
    );
    assert_eq!((&pixels[50..], notes.len()), (&[blue; 20][..], 0));
    // Enlarged twice each way, every pixel is four, and the user hears of it.
    let (pixels, notes) = read(16, 8, Fit::Crop, Filter::Nearest);
    assert_eq!(pixels[..16], [[black; 4], [red; 4], [red; 4], [green; 4]].concat());
    assert!(notes[0].contains("1 of 1 pictures are smaller than 16x8"), "{notes:?}");
    // A mean over all source pixels, not a sample of some: bytes as they are, no gamma.
    let mean = read(1, 1, Fit::Stretch, Filter::Triangle).0[0];
    assert!((90..=130).contains(&mean[0]) && mean[1] > 5, "{mean:?}");

    let message =
        refused(&DataConfig { fit: Some(Fit::Exact), ..DataConfig::folder(&folder, 4, 4) });
    assert!(message.contains("wide.png: 8x4 pixels, expected 4x4"), "{message}");
    let message =
        refused(&DataConfig { fit: Some(Fit::Center), ..DataConfig::folder(&folder, 8, 3) });
    assert!(message.contains("wide.png: 8x4 pixels, expected at most 8x3"), "{message}");
}

#[test]
fn invisible_pictures_are_named() {
    let folder = folder("folder_invisible");
    let mut dot = plain(2, 2, [9, 9, 9, 0]);
    write(&folder.join("nothing.png"), encode(dot.clone(), ImageFormat::Png));
    let palette = png_bytes((1, 1), ColorType::Indexed, BitDepth::Eight, &[0], |encoder| {
        encoder.set_palette(vec![9, 8, 7]);
        encoder.set_trns(vec![0]);
    });
    write(&folder.join("palette.png"), palette);
    dot.put_pixel(1, 1, Rgba([9, 9, 9, 1]));
    write(&folder.join("something.png"), encode(dot, ImageFormat::Png));
    let data = Dataset::read(&DataConfig::folder(&folder, 2, 2)).unwrap();
    let note = &data.notes()[0];
    assert!(note.contains("2 wholly transparent") && note.contains("#ffffff"), "{note}");
    assert!(note.contains("nothing.png") && note.contains("palette.png"), "{note}");
    assert!(!note.contains("something.png"), "{note}");
}

#[test]
fn fit_trains_on_a_folder_of_three_pictures() {
    let folder = folder("folder_fit");
    let mut picture = plain(12, 9, [200, 30, 60, 255]);
    picture.sub_image(0, 0, 4, 9).copy_from(&plain(4, 9, [0, 0, 0, 0]), 0, 0).unwrap();
    write(&folder.join("pictures/a.png"), encode(picture.clone(), ImageFormat::Png));
    write(&folder.join("pictures/b.webp"), encode(picture, ImageFormat::WebP));
    write(&folder.join("pictures/c/c.jpg"), Jpeg::default().row(&[&[30], &[220]]));
    write(&folder.join("pictures/broken.jpg"), [0xff, 0xd8, 0xff]);
    let run = |flip: bool, shift: usize, brightness: f64| {
        let _ = fs::remove_dir_all(folder.join("out"));
        let config = write_run(&folder, 1, |c| {
            c.data.sheet = None;
            c.data.folder = Some("pictures".into());
            (c.data.flip, c.data.shift) = (flip, shift);
            c.data.jitter.brightness = brightness;
            c.train.steps = 2;
        });
        let text = succeed(&config, &[]);
        assert!(text.contains("broken.jpg: damaged") && text.contains("3 images of 8x8"), "{text}");
        read_losses(&folder.join("out/loss.csv")).unwrap()
    };
    // The second step's, as the network starts at output 0; the first is the noise's own.
    let losses = [(false, 0, 0.0), (true, 0, 0.0), (false, 2, 0.0), (false, 0, 0.2)]
        .map(|(flip, shift, brightness)| run(flip, shift, brightness)[1]);
    let all: std::collections::BTreeSet<u64> = losses.iter().map(|loss| loss.to_bits()).collect();
    assert_eq!(all.len(), 4, "{losses:?}");
    assert_eq!(run(false, 0, 0.2)[1], losses[3]);
    assert_eq!(run(true, 0, 0.0)[1], losses[1]);

    // Resumed, it says so where the pictures are not those of the checkpoint.
    let config = folder.join("config.toml");
    assert!(!succeed(&config, &["--resume"]).contains("the images were others"));
    write(&folder.join("pictures/d.png"), gray_png(40));
    let text = succeed(&config, &["--resume"]);
    assert!(text.contains("the images were others (3 images, "), "{text}");
}

#[test]
fn run_does_not_write_among_its_pictures() {
    let folder = folder("folder_among");
    fs::create_dir_all(folder.join("pictures")).unwrap();
    write(&folder.join("pictures/a.png"), gray_png(40));
    let config = write_run(&folder, 1, |c| {
        c.data.sheet = None;
        c.data.folder = Some("pictures".into());
        c.train.steps = 1;
    });
    for out in ["pictures", "pictures/new/out", "new/../pictures/out"] {
        fs::create_dir_all(folder.join("new")).unwrap();
        let out = folder.join(out);
        let text = refuse(&config, &["--out", out.to_str().unwrap()]);
        assert!(text.contains("lies among the pictures of "), "{text}");
    }
    assert_eq!(fs::read_dir(folder.join("pictures")).unwrap().count(), 1);
    succeed(&config, &["--out", folder.join("pictures_out").to_str().unwrap()]);
}
